"""Pushing an encoded stream to a server, through a child process that may hang alone.

Imports `video.encode`; the child imports PyAV and nothing of segedge.
"""
