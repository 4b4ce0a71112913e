"""Reading, computing and writing at the same time, with every frame accounted for.

Knows threads, order and counts, not what a frame becomes; imports `frames`, `segment` and
`video.sources`.
"""
