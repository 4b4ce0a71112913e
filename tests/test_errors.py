from __future__ import annotations

import pytest

from segedge.card.labels import label_set
from segedge.errors import SegedgeError, first_line, last_line, nearest_name, unknown_name_error
from segedge.machine.optional import install_command, require


def test_text_is_fact_numbers_fix() -> None:
    error = SegedgeError("it does not fit", facts={"expected": "412", "found": "406"}, fix="do x")
    assert str(error) == "it does not fit\n  expected  412\n  found     406\n  fix       do x"


@pytest.mark.parametrize(
    ("says", "first", "last"),
    [
        ("", "ValueError", "ValueError"),
        (" \n a\n  b \n\n", "a", "b"),
        ("x" * 999, *["x" * 300] * 2),
    ],
)
def test_what_others_say_is_told_in_a_line(says: str, first: str, last: str) -> None:
    assert (first_line(ValueError(says)), last_line(ValueError(says))) == (first, last)


def test_the_nearest_name_is_offered() -> None:
    assert nearest_name("cityscape", ["camvid", "cityscapes"]) == "cityscapes"
    assert nearest_name("zzz", ["camvid"]) is None
    assert "did you mean 'cityscapes'?" in str(
        unknown_name_error("class set", "cityscape", ["cityscapes"])
    )


def test_an_unknown_label_set_names_the_known_ones() -> None:
    with pytest.raises(SegedgeError, match="did you mean 'camvid'") as caught:
        label_set("camvids")
    assert "ade20k" in caught.value.facts["known"]


def test_a_missing_library_says_how_to_install_it() -> None:
    with pytest.raises(SegedgeError, match="tensorrt_lite is needed to fly") as caught:
        require("tensorrt_lite", purpose="fly")
    assert caught.value.fix == "pip install tensorrt_lite"
    assert install_command("onnxruntime") == "pip install 'segedge[cpu]'"
