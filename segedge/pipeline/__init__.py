"""Reading, computing and writing at the same time, with every frame accounted for."""
