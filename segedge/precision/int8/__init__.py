"""int8 in the graph: where Q/DQ nodes stand, calibration, equalising, correcting."""
