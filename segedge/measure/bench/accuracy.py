"""Accuracy beside speed: what evaluation files say of the same model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.card.plain import parse_json
from segedge.errors import UsageError
from segedge.measure.bench.results import Row

_SCORES = ("miou", "mean_iou")
_INHERITED = ("backend", "precision")


@dataclass(frozen=True)
class Accuracy:
    """One measured accuracy, of a file without its folder; what it does not say is empty."""

    backend: str
    precision: str
    miou_percent: float
    source: str

    def fits(self, row: Row) -> bool:
        """Whether it was measured on what a row measured, as far as both say.

        A variant counts as its precision: ``openvino:f32`` is float32, ``tensorrt:fp16`` fp16.
        """
        base, _, variant = row.backend.partition(":")
        own, _, own_variant = self.backend.partition(":")
        if own != base:
            return False
        wanted = _precision(own_variant or self.precision)
        return not wanted or wanted == (_precision(variant) or _precision_in(row.description))


def _precision(text: str) -> str:
    """One spelling: fp32, fp16, bf16, int8."""
    names = {"f32": "fp32", "float32": "fp32", "f16": "fp16", "float16": "fp16"}
    return names.get(text.lower(), text.lower())


def _precision_in(description: str) -> str:
    words = description.replace(",", " ").replace("(", " ").replace(")", " ").split()
    known = ("fp32", "fp16", "bf16", "int8")
    return next((found for word in words if (found := _precision(word)) in known), "")


def read_accuracy(path: Path) -> list[Accuracy]:
    """Every ``miou`` in a JSON file, as `segedge eval --json` writes, with its backend.

    A backend or precision that is said once applies to everything below it. Shares of 1 become
    percent.
    """
    fix = "segedge eval MODEL DATA -o FILE.json"
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path} is no accuracy file", facts={"found": reason}, fix=fix) from error
    scores = list(_scores(data, {}))
    strange = next((score for _, score in scores if not 0.0 <= score <= 100.0), None)
    if strange is not None:
        facts = {"found": f"{strange:g}", "expected": "0 to 1, or percent"}
        raise UsageError(f"{path} has a 'miou' that is none", facts=facts, fix=fix)
    found = [
        Accuracy(
            inherited.get("backend", ""), inherited.get("precision", ""),
            100.0 * score if score <= 1.0 else score, path.name,
        )
        for inherited, score in scores
    ]  # fmt: skip
    if not found:
        raise UsageError(
            f"{path} is no accuracy file", facts={"found": "JSON without a 'miou'"}, fix=fix
        )
    return list(dict.fromkeys(found))


def _scores(data: Any, inherited: dict[str, str]) -> Iterator[tuple[dict[str, str], float]]:
    if isinstance(data, list):
        for item in data:
            yield from _scores(item, inherited)
    if not isinstance(data, dict):
        return
    own = {key: data[key] for key in _INHERITED if isinstance(data.get(key), str)}
    # Another backend has a precision of its own.
    inherited = own if "backend" in own else {**inherited, **own}
    scores = [
        float(value)
        for key, value in data.items()
        if key.lower() in _SCORES and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    yield from ((inherited, score) for score in scores[:1])
    # What lies below a score, as those of single images, is a part of it.
    for value in () if scores else data.values():
        yield from _scores(value, inherited)


def matched(rows: Sequence[Row], accuracies: Sequence[Accuracy]) -> list[tuple[Row, Accuracy]]:
    """Speed and accuracy of the same backend and precision."""
    return [(row, found) for row in rows for found in accuracies if found.fits(row)]
