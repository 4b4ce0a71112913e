"""Dataclasses to plain values and back, and the attachments that are written by them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from segedge.card.attachments import Attachment
from segedge.card.plain import PlainError, from_plain, to_plain
from segedge.errors import UsageError


@dataclass(frozen=True)
class Inner:
    shape: tuple[int | None, ...]
    kind: Literal["image", "noise"] = "image"


@dataclass(frozen=True)
class Outer:
    name: str
    weight: float
    inner: Inner | None = None
    several: tuple[Inner, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    on: bool = False

    def __post_init__(self) -> None:
        if self.name == "no":
            raise UsageError("not this one")


FULL = Outer(
    "a", 2.0, Inner((1, None)), (Inner((), "noise"),), ((1, 2), (3, 4)), {"x": [1, "y"]}, True
)


def test_there_and_back() -> None:
    plain = json.loads(json.dumps(to_plain(FULL)))
    assert from_plain(Outer, plain) == FULL
    assert plain["inner"] == {"shape": [1, None], "kind": "image"}
    assert from_plain(Outer, {"name": "b", "weight": 1, "later": 3}) == Outer("b", 1.0)
    assert to_plain({"out": Path("a/b")}) == {"out": "a/b"}


@pytest.mark.parametrize(
    ("values", "says", "where"),
    [
        ({"name": "a"}, "lacks weight", ""),
        ({"name": 1, "weight": 1}, "'1' is no str", "name"),
        ({"name": "a", "weight": True}, "'True' is no float", "weight"),
        ({"name": "a", "weight": 1, "on": 1}, "'1' is no bool", "on"),
        ({"name": "a", "weight": 1, "inner": {}}, "lacks shape", "inner"),
        ({"name": "a", "weight": 1, "inner": 3}, "Inner | None", "inner"),
        ({"name": "a", "weight": 1, "inner": {"shape": ["x"]}}, "is no tuple", "shape"),
        ({"name": "a", "weight": 1, "several": [{"shape": [], "kind": "z"}]}, "'z' is no", "kind"),
        ({"name": "a", "weight": 1, "pairs": [[1, 2, 3]]}, "is no tuple", "pairs"),
        ({"name": "a", "weight": 1, "options": []}, "is no", "options"),
    ],
)
def test_what_does_not_fit(values: dict[str, Any], says: str, where: str) -> None:
    with pytest.raises(PlainError) as caught:
        from_plain(Outer, values)
    assert says in str(caught.value)
    assert caught.value.where == where


def test_what_the_dataclass_refuses_is_raised_as_it_is() -> None:
    with pytest.raises(UsageError, match="not this one"):
        from_plain(Outer, {"name": "no", "weight": 1})


def test_attachments(caplog: pytest.LogCaptureFixture) -> None:
    proof = Attachment("segedge.proof", Inner, 2)
    value = Inner((1, 2), "noise")
    metadata = {"segedge.card": "{}", **proof.metadata(value)}
    assert proof.read(metadata) == value
    assert proof.read({}) is None
    assert not caplog.records
    older = json.dumps({"version": 1, "shape": []})
    assert proof.read({proof.key: older}) == Inner(())
    for text, words in [
        ("{", "Expecting"),
        ("[1]", "no version"),
        ('{"version": 3, "shape": []}', "version 3"),
        ('{"version": 2}', "lacks shape"),
        ('{"version": 2, "shape": ["x"]}', "is no"),
    ]:
        caplog.clear()
        assert proof.read({proof.key: text}) is None
        assert words in caplog.text
        assert "segedge.proof" in caplog.text
