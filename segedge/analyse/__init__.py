"""What a label map says about the road: drivable area, obstacles, zones, metres on the ground.

Analyses and painters over one result each; imports `cpu` and `frames`, no network.
"""
