from __future__ import annotations

import pytest

from segedge.card.labels import label_set
from segedge.errors import SegedgeError, nearest_name, unknown_name_error
from segedge.machine.optional import install_command, require


def test_text_is_fact_numbers_fix() -> None:
    error = SegedgeError("it does not fit", facts={"expected": "412", "found": "406"}, fix="do x")
    assert str(error) == "it does not fit\n  expected  412\n  found     406\n  fix       do x"


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
