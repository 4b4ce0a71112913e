"""Effects: one table says what sets each apart."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import segedge
from segedge.options.effect import EFFECTS, TRAITS, EffectName


def test_every_name_is_in_the_table() -> None:
    assert get_args(EffectName) == EFFECTS == tuple(TRAITS)


def test_nobody_compares_names() -> None:
    package = Path(segedge.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and "effect.name" in ast.unparse(node):
                names = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                assert not names & set(EFFECTS), f"{path}: ask effect.traits, not for {names}"
