"""What runs in a contender's own process: it opens the model and measures it in each mode.

Asked by a `Job`, answers in JSON; heavy imports are made, and timed, inside.
"""
