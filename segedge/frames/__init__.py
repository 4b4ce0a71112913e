"""One picture on its way: `Frame`, its times, and the seams `Source`, `Sink` and `Analysis`.

Imports errors only.
"""
