"""Every TensorRT attribute and call in segedge exists in every version that segedge serves.

What is not in all of them may be used in `versions.py` only, and must be listed there in
GUARDED. The versions are the real bindings: see bindings.py.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from segedge.engine.versions import GUARDED
from tests.engine import bindings
from tests.engine.api_uses import CLASS_OF_NAME, CLASSES, GUARD_FILE, MEMBERS, Use, collect

Surface = dict[str, dict[str, Any]]
NEWEST = [*bindings.VERSIONS][-1]
"""It has wheels for every Python; the older ones have none for the newest Pythons."""
GENERIC = {"get_output"}
"""Names of TensorRT that others have too."""


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    """Kept between test runs, not committed."""
    return request.config.cache.mkdir("tensorrt-bindings")  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def rtx_surface(rtx: Any) -> Surface:
    surface: Surface = bindings.dump(rtx.module.__name__)
    return surface


def suspicious_names(surface: Surface) -> set[str]:
    """Attributes of the classes that segedge uses, but for names that anything may have."""
    names = {name for kind in CLASSES for name in surface.get(kind, {}) if "_" in name.strip("_")}
    return {name for name in names if not name.startswith("_")} - GENERIC


@pytest.fixture(scope="module")
def uses(rtx_surface: Surface) -> list[Use]:
    return collect(())[0]


def test_every_use_is_followed(rtx_surface: Surface) -> None:
    """An attribute that looks like TensorRT's on an unknown object would escape this test."""
    found, lost = collect(suspicious_names(rtx_surface))
    assert lost == []
    assert len(found) > 60
    assert {"Builder", "OnnxParser", "ICudaEngine", "IExecutionContext"} <= {u.owner for u in found}


@pytest.mark.parametrize("version", [*bindings.VERSIONS, "rtx"])
def test_exists(version: str, uses: list[Use], folder: Path, rtx_surface: Surface) -> None:
    surface = rtx_surface if version == "rtx" else available(version, folder)
    wrong = [str(use) for use in uses if not exists(use, surface) and not is_guarded(use)]
    assert wrong == [], f"not in {version}; guard it in {GUARD_FILE}"


@pytest.mark.parametrize("version", [*bindings.VERSIONS, "rtx"])
def test_signatures(version: str, uses: list[Use], folder: Path, rtx_surface: Surface) -> None:
    surface = rtx_surface if version == "rtx" else available(version, folder)
    wrong = [
        f"{use} with {use.arguments}: {doc_of(use, surface)[:200]}"
        for use in uses
        if use.arguments is not None and exists(use, surface) and not accepts(use, surface)
    ]
    assert wrong == []


def test_guards_are_needed_and_real(uses: list[Use], folder: Path, rtx_surface: Surface) -> None:
    """GUARDED lists nothing that all versions have, and nothing that none has."""
    surfaces = [rtx_surface, *(available(version, folder) for version in bindings.VERSIONS)]
    for name, attributes in GUARDED.items():
        owner = guarded_owner(name)
        for attribute in attributes:
            use = Use(GUARD_FILE, 0, owner, attribute)
            have = [exists(use, surface) for surface in surfaces]
            assert any(have), f"{use} exists nowhere"
            assert not all(have), f"{use} exists everywhere: take it out of GUARDED"
            assert any((u.owner, u.attribute) == (owner, attribute) for u in uses), f"{use} unused"


def test_the_check_finds_what_is_wrong(rtx_surface: Surface) -> None:
    """This test itself can fail."""
    assert not exists(Use("f", 1, "Builder", "platform_has_fast_fp16"), rtx_surface)
    assert not exists(Use("f", 1, "type:BuilderFlag", "FP16"), rtx_surface)
    assert not accepts(Use("f", 1, "Builder", "create_network", (3, ())), rtx_surface)
    assert not accepts(Use("f", 1, "Builder", "create_network", (0, ("nonsense",))), rtx_surface)
    assert accepts(Use("f", 1, "Builder", "create_network", (1, ())), rtx_surface)


def available(version: str, folder: Path) -> Surface:
    try:
        return bindings.surface(version, folder)
    except bindings.NotAvailableError as error:
        if os.environ.get("SEGEDGE_REQUIRE_RTX") and version == NEWEST:
            pytest.fail(f"SEGEDGE_REQUIRE_RTX is set; TensorRT {version}: {error}")
        pytest.skip(f"TensorRT {version}: {error}")


def is_guarded(use: Use) -> bool:
    if use.file != GUARD_FILE:
        return False
    if use.owner.startswith("type:") and use.owner[5:] in GUARDED["trt"]:
        return True  # a member of a guarded enum
    if use.owner in ("IRuntimeConfig", "IRuntimeCache"):
        return True  # objects that only a guarded call gives
    return any(
        use.attribute in attributes and guarded_owner(name) == use.owner
        for name, attributes in GUARDED.items()
    )


def guarded_owner(name: str) -> str:
    return f"type:{name[4:]}" if name.startswith("trt.") else CLASS_OF_NAME[name]


def exists(use: Use, surface: Surface) -> bool:
    kind = use.owner.removeprefix("type:")
    if use.attribute in MEMBERS and use.owner.startswith("type:"):
        return kind in surface
    return use.attribute in surface.get(kind, {})


def doc_of(use: Use, surface: Surface) -> str:
    if use.owner == "module":
        return str(surface.get(use.attribute, {}).get("__init__") or "")
    return str(surface.get(use.owner.removeprefix("type:"), {}).get(use.attribute) or "")


def accepts(use: Use, surface: Surface) -> bool:
    """Whether one of pybind11's signatures takes the arguments; True where none is written."""
    signatures = re.findall(r"^(?:\d+\. )?\w+\((self: .*)\) -> ", doc_of(use, surface), re.M)
    parsed = [_parameters(text) for text in signatures]
    return not parsed or any(_fits(use, parameters) for parameters in parsed)


def _fits(use: Use, parameters: list[tuple[str, bool]]) -> bool:
    assert use.arguments is not None
    positional, named = use.arguments
    names = [name for name, _ in parameters]
    if positional > len(names) or not set(named) <= set(names[positional:]):
        return False
    required = {name for name, optional in parameters[positional:] if not optional}
    return required <= set(named)


def _parameters(text: str) -> list[tuple[str, bool]]:
    """(name, whether it has a default) of each parameter after self."""
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return [(part.split(":")[0].strip(), " = " in part) for part in parts[1:]]
