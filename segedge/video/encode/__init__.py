"""Encoders: which one, with which settings, at which priority.

Knows packets and files, no results; imports `video`.
"""
