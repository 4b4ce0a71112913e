"""Pages of HTML with charts, made of strings alone; what they say is others' business."""
