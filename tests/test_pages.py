"""What the pages name is there: files, modules and what is in them, commands and their options."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path

import pytest
import typer

from segedge.card.card import RESIZE_RULES
from segedge.card.geometry import FITS
from segedge.card.labels import built_in_sets
from segedge.cli.main import VERBS, build_app
from segedge.options.effect import EFFECTS
from segedge.pipeline.mailbox import POLICIES
from tests.small_model import run_verb
from tests.test_layers import FLOORS

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md", "CONTRIBUTING.md", "benchmarks/README.md", "export/README.md",
    *(f"docs/{page.name}" for page in sorted(ROOT.glob("docs/*.md"))),
]  # fmt: skip
OURS = ("segedge", "tests", "benchmarks", "export", "docs", "findings")
"""Folders of the repository; other paths on the pages are their readers'."""
KEYS = {"segedge.statistics"}
"""Of a model file's metadata."""
OF_OTHERS = {"--ipc", "--shm-size", "--stop-timeout", "--system-site-packages"}
"""Options of Docker and of Python's venv."""


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def code_of(page: str) -> list[str]:
    """Spans and lines of blocks; lines that go on are one."""
    text = re.sub(r"\\\n\s*", " ", text_of(page))
    fenced = re.compile(r"^```\w*\n(.*?)^```", flags=re.M | re.S)
    blocks = fenced.findall(text) + re.findall(r"\n\n((?:    .*\n)+)", text)
    spans = re.findall(r"`([^`]+)`", fenced.sub("", text))
    lines = [line for block in blocks for line in block.splitlines()]
    return [" ".join(code.split()) for code in [*spans, *lines] if code.strip()]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT / page
    for path, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text_of(page)):
        target = here.parent / path if path else here
        assert target.exists(), f"{page} links to {path}"
        titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M) if heading else []
        slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not heading or heading in slugs, f"{page} links to {path}#{heading}"


@pytest.mark.parametrize("page", PAGES)
def test_files_are_there(page: str) -> None:
    named = {
        path.rstrip("/.")
        for code in code_of(page)
        for path in re.findall(rf"(?<![\w/.-])(?:{'|'.join(OURS)})/[\w/.-]+", code)
        if "NAME" not in path
    }
    missing = [path for path in sorted(named) if not (ROOT / path).exists()]
    assert not missing, f"{page}: {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_their_names_are_there(page: str) -> None:
    named = {n for code in code_of(page) for n in re.findall(r"\bsegedge(?:\.\w+)+", code)}
    missing = [name for name in sorted(named) if not is_there(name) and name not in KEYS]
    assert not missing, f"{page}: {missing}"


def is_there(dotted: str) -> bool:
    module, rest = dotted.split("."), []
    while module:
        try:
            found = importlib.import_module(".".join(module))
        except ModuleNotFoundError:
            rest.insert(0, module.pop())
            continue
        for name in rest:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@cache
def options_of(verb: str) -> set[str]:
    group = typer.main.get_command(build_app([verb]))
    return {
        name
        for command in (group, group.commands[verb])  # type: ignore[attr-defined]
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_these_verbs_and_options(page: str) -> None:
    wrong = []
    for code in code_of(page):
        for start, verb, words in re.findall(r"(^[$ ]*|\s)segedge ([a-z]+)\b([^|&;#]*)", code):
            if verb not in VERBS:
                wrong += [code] if start != " " else []
                continue
            asked = re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", words)
            wrong += [f"segedge {verb} {o}" for o in asked if o not in options_of(verb)]
    assert not wrong, f"{page}: {wrong}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith("docs")])
def test_options_by_themselves(page: str) -> None:
    known = set().union(*map(options_of, VERBS))
    named = {o for code in code_of(page) for o in re.findall(r"^--[a-z][\w-]*", code)}
    assert not named - known - OF_OTHERS, f"{page}: {sorted(named - known)}"


CONTRIBUTING = text_of("CONTRIBUTING.md")


def test_the_table_of_floors_is_the_plan_of_the_layers() -> None:
    """A row may have several floors, and the rooms of all of them."""
    told: dict[tuple[int, ...], set[str]] = {
        tuple(map(int, floors.split(","))): set(re.findall(r"`([^`]+)`", rooms))
        for floors, rooms in re.findall(r"^\| (\d[\d, ]*) \| ([^|]*) \|", CONTRIBUTING, re.M)
    }
    assert [floor for floors in told for floor in floors] == list(range(len(FLOORS)))
    for floors, rooms in told.items():
        assert rooms == {room for floor in floors for room in FLOORS[floor]}, floors


def files_named(path: str) -> list[Path]:
    """What CONTRIBUTING.md means: from the root, from ``segedge/``, or the end of a path there."""
    roots = (ROOT / path, ROOT / "segedge" / path)
    return [one for one in roots if one.exists()] or list((ROOT / "segedge").rglob(path))


def test_files_that_contributing_names_are_there() -> None:
    named = re.findall(r"`([\w-]+(?:/[\w-]+)*(?:/|\.(?:py|cu|json|md|toml)))`", CONTRIBUTING)
    assert len(named) > 50
    assert [path for path in named if "NAME" not in path and len(files_named(path)) != 1] == []


def test_what_contributing_says_is_in_a_file_is_there() -> None:
    """`NAME` or `NAME` of `a/file.py`."""
    listed = r"((?:`\w+`(?:, | or | and )?)+) (?:of|in) `([\w/]+\.(?:py|cu))`"
    pairs = [
        (name, path)
        for names, path in re.findall(listed, " ".join(CONTRIBUTING.split()))
        for name in re.findall(r"`(\w+)`", names)
    ]
    assert len(pairs) > 20
    texts = {path: files_named(path)[0].read_text(encoding="utf-8") for _, path in pairs}
    assert [pair for pair in pairs if not re.search(rf"\b{pair[0]}\b", texts[pair[1]])] == []


def test_the_reports_name_their_tests() -> None:
    named = re.findall(r"`([\w/]+\.py)`", text_of("tests/reports.md"))
    assert len(named) > 5
    assert [path for path in named if not (ROOT / "tests" / path).exists()] == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/export.md", (*RESIZE_RULES, *FITS, *built_in_sets())),
        ("docs/effects.md", EFFECTS),
        ("docs/pipeline.md", POLICIES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lists_are_whole(page: str, names: tuple[str, ...]) -> None:
    told = {word for code in code_of(page) for word in re.findall(r"[\w-]+", code)}
    assert not set(names) - told


def test_label_sets_are_told_by_the_help() -> None:
    told = run_verb("export", "--help").stdout
    assert all(re.search(rf"\b{name}\b", told) for name in built_in_sets())
