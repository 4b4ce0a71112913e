"""Checkpoints as training scripts write them: what lies beside the weights, and several of them."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convert_nets import Tiny, plain, up

from segedge.cli.main import run
from segedge.convert import ExportOptions
from segedge.convert.checkpoint import load_checkpoint
from segedge.errors import CheckpointError, UsageError

FACTORY = f"{Path(__file__).parent / 'convert_nets.py'}:plain"


def state(seed: int = 9) -> dict[str, torch.Tensor]:
    return Tiny(up, seed=seed).state_dict()


def loaded(tmp_path: Path, stored: Any, key: str | None = None) -> tuple[Any, dict[str, Any]]:
    """What is reported of a checkpoint, and the weights that a network has from it."""
    torch.save(stored, tmp_path / "w.pth")
    network = plain()
    report = load_checkpoint(network, tmp_path / "w.pth", factory="f", key=key)
    return report, network.state_dict()


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(torch.equal(first[name], torch.as_tensor(second[name])) for name in second)


def counts() -> collections.defaultdict[str, list[int]]:
    found: collections.defaultdict[str, list[int]] = collections.defaultdict(list)
    found["seen"].append(3)
    return found


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, out=pathlib.Path("runs") / "1", names=("a", "b")),
        types.SimpleNamespace(lr=0.1),
        np.float64(0.7731), np.int64(3), np.bool_(True), np.float32,
        np.arange(6.0).reshape(2, 3), np.array(["road", "sky"]), np.array([{"a": 1}], object),
        np.random.RandomState(0).get_state(), counts(), collections.deque([0.1, 0.2], maxlen=9),
        collections.OrderedDict(a=1), collections.Counter("abca"), pathlib.PureWindowsPath("c:/w"),
        pathlib.Path("/data/best.pth"), datetime.datetime(2024, 1, 2), datetime.timedelta(3),
        torch.__version__, torch.device("cpu"), {"a", "b"}, frozenset("ab"), range(3), slice(1, 2),
        int, 1 + 2j, b"bytes", torch.float16,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_values_beside_the_weights_are_read(tmp_path: Path, beside: Any, legacy: bool) -> None:
    weights = state()
    torch.save(
        {"state_dict": weights, "beside": beside}, tmp_path / "w.pth",
        _use_new_zipfile_serialization=not legacy,
    )  # fmt: skip
    network = plain()
    report = load_checkpoint(network, tmp_path / "w.pth", factory="f")
    assert (report.key, report.loaded, report.ignored) == ("state_dict", 6, ())
    assert equal(network.state_dict(), weights)


class Opens:
    """What a checkpoint could do, if it were let."""

    def __reduce__(self) -> Any:
        return open, ("made-by-a-checkpoint", "w")


class Config:
    lr = 0.1


@pytest.mark.parametrize(
    ("beside", "named"),
    [(Config(), "test_checkpoints.Config"), (Opens(), "io.open"), (print, "print"),
     (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
     (getattr, "getattr"), (np.load, "numpy.load"), (Path.unlink, "getattr")],
)  # fmt: skip
def test_types_that_are_not_known_are_refused_by_name(
    tmp_path: Path, beside: Any, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    allowed = set(torch.serialization.get_safe_globals())
    with pytest.raises(CheckpointError, match="would run code") as caught:
        loaded(tmp_path, {"state_dict": state(), "beside": beside})
    assert caught.value.facts["found"].endswith(named)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]
    assert set(torch.serialization.get_safe_globals()) == allowed


@pytest.mark.parametrize(
    ("stored", "key", "prefix", "others"),
    [
        ({"params_ema": state(1), "params": state(2)}, "params_ema", "", ("params",)),
        ({"student": state(1), "optimizer": {"state": {0: state(2)}}}, "student", "", ()),
        ({"generator": state(1), "discriminator": {"x": torch.ones(2)}}, "generator", "", ()),
        ({"teacher": state(1), "student": state(2)}, "teacher", "", ("student",)),
        ({"student": state(2), "ema": {"module": state(1)}}, "ema.module", "", ("student",)),
        ({"my_net": {"weights_of_it": state(1)}}, "my_net.weights_of_it", "", ()),
        ({"model": {f"segmenter.net.{k}": v for k, v in state(1).items()}},
         "model", "segmenter.net.", ()),
        ({"state_dict": {**{f"student.{k}": v for k, v in state(2).items()},
                         **{f"teacher.{k}": v for k, v in state(1).items()}}},
         "state_dict", "teacher.", ("state_dict.student",)),
        ({"model": state(1), "state_dict": state(1)}, "state_dict", "", ()),
        ({"run": {"best": {"fold 1": {"net": state(1)}}}}, "run.best.fold 1.net", "", ()),
        ((state(1), {"epoch": 3}), "0", "", ()),
        ({"models": [{"ema": state(1)}, {"x": torch.ones(2)}]}, "models.0.ema", "", ()),
        ({"net": {k: v.numpy() for k, v in state(1).items()}}, "net", "", ()),
        ({"model": state(1), "ema": {**state(3), "head.bias": torch.zeros(7)}}, "model", "", ()),
    ],
    ids=["params_ema", "student", "generator", "teacher", "nested ema", "unknown keys",
         "unknown prefix", "two prefixes", "the same twice", "four deep", "a tuple",
         "a list", "arrays", "the one that fits"],
)  # fmt: skip
def test_weights_are_found_and_the_choice_is_told(
    tmp_path: Path, stored: Any, key: str, prefix: str, others: tuple[str, ...]
) -> None:
    report, weights = loaded(tmp_path, stored)
    assert (report.key, report.prefix, report.others) == (key, prefix, others)
    assert report.loaded == 6
    assert equal(weights, state(1))


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (list(state().values()), "a list of 6 tensors, the first 8x3x5x5"),
        (tuple(state().values()), "a list of 6 tensors, the first 8x3x5x5"),
        ({"ema": {"decay": 0.99, "shadow_params": list(state().values())}},
         "a list of 6 tensors at 'ema.shadow_params', the first 8x3x5x5"),
    ],
    ids=["list", "tuple", "averaged"],
)  # fmt: skip
def test_weights_without_names_are_refused(tmp_path: Path, stored: Any, found: str) -> None:
    """Which belongs where is known where they were trained alone."""
    with pytest.raises(CheckpointError, match="without their names") as caught:
        loaded(tmp_path, stored)
    assert caught.value.facts["found"] == found
    assert "ema.copy_to(model.parameters())" in (caught.value.fix or "")


def test_averaged_weights_without_names_are_told_of(tmp_path: Path) -> None:
    averaged = {"decay": 0.99, "shadow_params": list(state(2).values())}
    report, weights = loaded(tmp_path, {"model": state(1), "ema": averaged})
    assert (report.key, report.nameless) == ("model", ("ema.shadow_params",))
    assert equal(weights, state(1))
    with pytest.raises(CheckpointError, match="without their names"):
        loaded(tmp_path, {"model": state(1), "ema": averaged}, "ema.shadow_params")


def test_the_choice_can_be_made(tmp_path: Path) -> None:
    stored = {"ema": state(1), "model": {f"module.{k}": v for k, v in state(2).items()}}
    for key in ("model", "model.module"):
        report, weights = loaded(tmp_path, stored, key)
        assert (report.key, report.prefix) == ("model", "module.")
        assert equal(weights, state(2))
    with pytest.raises(UsageError, match="no state dict at 'student'") as caught:
        loaded(tmp_path, stored, "student")
    assert "ema, model, model.module" in caught.value.facts["found"]
    with pytest.raises(UsageError, match="--key names weights in a checkpoint"):
        ExportOptions(checkpoint_key="ema")


def test_the_command_line_tells_of_the_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"ema": state(1), "model": state(2)}, tmp_path / "w.pth")
    asked = ["export", FACTORY, "--size", "64x96", "-o", str(tmp_path / "m.onnx")]
    for more, line in (
        (["--checkpoint", str(tmp_path / "w.pth")],
         "w.pth: 6 of 6 tensors, from key 'ema', not model, which fits, too: --key chooses"),
        ([], "checkpoint none given: the weights are those that convert_nets.py:plain makes"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as caught:
            run([*asked, *more])
        assert caught.value.code in (0, None)
        assert line in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("packed", "found"),
    [
        (lambda weight: (40 * weight).to(torch.int8), "torch.int8"),
        (lambda weight: weight.to(torch.complex64), "torch.complex64"),
        (lambda weight: weight.to_sparse(), "torch.sparse_coo"),
        (lambda weight: weight.to("meta"), "no values"),
    ],
)
def test_weights_that_are_no_plain_numbers_are_refused(
    tmp_path: Path, packed: Any, found: str
) -> None:
    """Casting integers gives other weights, which parity cannot see: both sides have them."""
    stored = {name: packed(value) for name, value in state().items()}
    with pytest.raises(CheckpointError, match="no plain numbers") as caught:
        loaded(tmp_path, stored)
    assert found in caught.value.facts["found"]
    halves = {name: value.half() for name, value in state().items()}
    assert equal(loaded(tmp_path, halves)[1], {k: v.float() for k, v in halves.items()})
