"""What is done to a network so that int8 loses less, where it helps: tried, and kept if it does."""

from __future__ import annotations

from dataclasses import dataclass

from segedge.precision.int8.error import QuantizationError, Reference
from segedge.precision.int8.quantizer import Progress, Quantizer
from segedge.precision.int8.ranges import Method

_EQUALIZED, _CORRECTED = "equalised", "biases corrected"


@dataclass(frozen=True)
class Corrected:
    """What agrees best with the float network."""

    quantizer: Quantizer
    """With or without equalised channels and corrected biases."""
    method: Method
    """How ranges are chosen."""
    error: QuantizationError
    """How far it is from the float network."""
    taken: str
    """Its name in ``tried``."""
    tried: dict[str, QuantizationError]
    """All that was tried: ``minmax``, ``minmax, equalised``, ``minmax, biases corrected``."""


def correct(
    quantizer: Quantizer, reference: Reference, *, progress: Progress | None = None
) -> Corrected:
    """Try all methods, with and without equalised channels, then the best with corrected biases."""
    wanted = quantizer.options.correct
    other = quantizer.with_equal_channels(progress) if wanted else None
    variants = [(quantizer, "")] + ([(other, f", {_EQUALIZED}")] if other is not None else [])
    methods = quantizer.methods()
    total = len(variants) * len(methods) + wanted
    tried: dict[str, QuantizationError] = {}

    def error_of(variant: Quantizer, method: Method, name: str) -> QuantizationError:
        tried[name] = reference.error(variant.network(method))
        if progress is not None:
            progress("comparing", len(tried), total)
        return tried[name]

    found = [
        (error_of(variant, method, method + suffix), variant, method, suffix)
        for variant, suffix in variants
        for method in methods
    ]
    error, best, method, suffix = min(found, key=lambda one: one[0])
    taken = method + suffix
    if wanted:
        biased, name = best.with_corrected_biases(), f"{taken}, {_CORRECTED}"
        biased_error = error_of(biased, method, name)
        if biased_error < error:
            error, best, taken = biased_error, biased, name
    return Corrected(best, method, error, taken, tried)
