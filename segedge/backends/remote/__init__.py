"""A served model as a backend: address, link, shared memory, what the server says of itself.

Knows the protocol of Triton; imports what `backends` imports.
"""
