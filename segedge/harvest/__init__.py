"""Harvest: the frames that a network is least sure of, kept while it runs, with its labels.

Knows scores and the kept files; imports `card`, `frames` and `video.sinks`, no segmenter.
"""
