"""What runs in a contender's own process: it opens the model and measures it in each mode."""
