"""What a label map says about the road: drivable area, obstacles, zones, metres on the ground."""
