"""A served model as a backend: address, link, shared memory, what the server says of itself."""
