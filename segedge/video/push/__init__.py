"""Pushing an encoded stream to a server, through a child process that may hang alone."""
