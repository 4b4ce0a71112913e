"""Archives: many files to masks, overlays and one table, on one machine or a Ray cluster."""
