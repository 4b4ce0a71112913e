"""What the system says of the processor, without any library."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")


@cache
def first_processor() -> dict[str, str]:
    """What the kernel says of the first one: of hundreds it takes its time. Empty: it does not."""
    try:
        with CPU_FACTS.open(encoding="utf-8") as file:
            lines = list(itertools.takewhile(str.strip, file))
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def abilities() -> frozenset[str]:
    """Names of its instruction sets, as the kernel has them."""
    facts = first_processor()
    return frozenset(f"{facts.get('flags', '')} {facts.get('Features', '')}".split())
