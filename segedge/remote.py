"""Models on servers: `segedge.load("grpc://host:8001/street")`, and what it is made of.

`RemoteBackend` is a `Backend`: with its card it makes a segmenter as any other does. Address and
options: `parse_address`; what is done when a server is lost: `segedge.backends.remote.backend`.
"""

from segedge.backends.remote.address import RemoteAddress, RemoteOptions, is_address, parse_address
from segedge.backends.remote.backend import RemoteBackend

__all__ = ["RemoteAddress", "RemoteBackend", "RemoteOptions", "is_address", "parse_address"]
