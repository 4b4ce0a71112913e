"""The steps of gpu_check.py: each runs in a process of its own and reports rows."""
