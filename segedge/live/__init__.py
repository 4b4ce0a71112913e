"""The live view: a page in the browser that shows what the pipeline sees, and how fast."""
