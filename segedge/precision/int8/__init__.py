"""int8 in the graph: where Q/DQ nodes stand, calibration, equalising, correcting.

Imports `precision`, `convert` and `cpu`, which prepares calibration images.
"""
