"""How fast a model is here: measured, with its spread, its environment and what it includes."""
