"""Encoders: which one, with which settings, at which priority."""
