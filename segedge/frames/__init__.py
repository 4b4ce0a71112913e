"""One picture on its way: `Frame`, its times, and the seams `Source`, `Sink` and `Analysis`.

Imports errors and `card` only; whoever reads, computes or writes frames meets here.
"""
