"""What may be handed to export, and what is said where it cannot be used."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from convert_nets import SIZE, Tiny, plain, up

from segedge.card.geometry import Size
from segedge.convert import ExportOptions, export, parse_argument
from segedge.convert.checkpoint import load_checkpoint
from segedge.convert.sources import resolve
from segedge.errors import (
    CardError,
    CheckpointError,
    ExportError,
    SegedgeError,
    SinkError,
    UsageError,
)

FACTORY = f"{Path(__file__).parent / 'convert_nets.py'}:plain"
NONE = ExportOptions()


def state() -> dict[str, torch.Tensor]:
    return Tiny(up, seed=9).state_dict()


def saved(tmp_path: Path, value: Any, name: str = "w.pth") -> Path:
    torch.save(value, tmp_path / name)
    return tmp_path / name


def message(error: pytest.ExceptionInfo[SegedgeError]) -> str:
    return str(error.value)


# ------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize(
    ("wrap", "key", "prefix"),
    [
        (lambda s: s, "", ""),
        (lambda s: {"state_dict": s, "epoch": 483}, "state_dict", ""),
        (lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}, "model", "module."),
        (
            lambda s: {"net": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
            "net",
            "_orig_mod.module.",
        ),
        (lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}}, "state_dict", "model."),
        (lambda s: {"model": {k: v * 0 for k, v in s.items()}, "ema": s}, "ema", ""),
        (lambda s: {"ema": {"module": s, "decay": 0.99}}, "ema.module", ""),
    ],
    ids=["bare", "state_dict", "DataParallel", "compiled", "Lightning", "ema", "nested ema"],
)
def test_state_dicts_are_found(tmp_path: Path, wrap: Any, key: str, prefix: str) -> None:
    network, weights = plain(), state()
    report = load_checkpoint(network, saved(tmp_path, wrap(weights)), factory="f")
    assert (report.key, report.prefix) == (key, prefix)
    assert (report.loaded, report.expected) == (6, 6)
    assert report.epoch == (483 if key == "state_dict" and not prefix else None)
    assert all(torch.equal(network.state_dict()[name], weights[name]) for name in weights)


def test_safetensors_and_unexpected_tensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = {**state(), "aux.weight": torch.zeros(2)}
    save_file(
        {f"module.{k}": v.contiguous() for k, v in weights.items()}, tmp_path / "w.safetensors"
    )
    report = load_checkpoint(plain(), tmp_path / "w.safetensors", factory="f")
    assert (report.loaded, report.prefix, report.ignored) == (6, "module.", ("aux.weight",))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:99])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(plain(), tmp_path / "cut.safetensors", factory="f")


def test_another_class_count_is_recognised(tmp_path: Path) -> None:
    file = saved(tmp_path, {"state_dict": Tiny(up, 11).state_dict()})
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(plain(), file, factory="nets.py:plain")
    text = message(caught)
    assert "w.pth does not fit the network" in text
    assert "6 tensors, 4 of them fit" in text
    assert "head.bias (11,); the network wants head.bias (5,)" in text
    assert "the checkpoint seems to have 11, nets.py:plain builds 5" in text
    assert "--arg num_classes=11" in text


def test_missing_and_unexpected_names(tmp_path: Path) -> None:
    weights = {k.replace("head", "classifier"): v for k, v in state().items()}
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(plain(), saved(tmp_path, weights), factory="f")
    assert "missing     2, first: head.weight (5, 8, 1, 1)" in message(caught)
    assert "unexpected  2, first: classifier.weight (5, 8, 1, 1)" in message(caught)


def test_unusable_checkpoint_files(tmp_path: Path) -> None:
    whole = saved(tmp_path, state())
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:1000])
    (tmp_path / "empty.pth").write_bytes(b"")
    saved(tmp_path, {"loss": 1.0, "step": 3}, "other.pth")
    for name, words in {
        "absent.pth": "does not exist",
        "empty.pth": "is empty",
        "cut.pth": "cannot be read: truncated",
        "other.pth": "holds no state dict",
    }.items():
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(plain(), tmp_path / name, factory="f")
        assert words in message(caught)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/segedge-bomb"),))


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    saved(tmp_path, {"state_dict": state(), "config": Bomb()})
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Bomb()}))
    for name in ("w.pth", "plain.pth"):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(plain(), tmp_path / name, factory="f")
        assert "would run code" in message(caught) or "cannot be read" in message(caught)
    assert not Path("/tmp/segedge-bomb").exists()


# ------------------------------------------------------------------ factories


def test_arguments_are_literals() -> None:
    assert parse_argument("num_classes=19") == ("num_classes", 19)
    assert parse_argument("widths=(1, 2)") == ("widths", (1, 2))
    assert parse_argument("backbone=resnet18") == ("backbone", "resnet18")
    assert parse_argument("url=a=b") == ("url", "a=b")
    with pytest.raises(UsageError, match="no NAME=VALUE"):
        parse_argument("19")


def test_a_factory_with_arguments_and_checkpoint(tmp_path: Path) -> None:
    file = saved(tmp_path, Tiny(up, 7).state_dict())
    found = resolve(FACTORY, ExportOptions(checkpoint=file, arguments={"classes": 7}))
    assert (found.kind, found.name) == ("factory", "convert_nets.py:plain")
    assert found.checkpoint is not None
    assert found.sha256 == found.checkpoint.sha256
    assert len(found.sha256) == 64


def test_a_factory_file_may_hold_dataclasses_with_postponed_types(tmp_path: Path) -> None:
    nets = tmp_path / "nets_of_data.py"
    nets.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "import torch\n"
        "@dataclass\n"
        "class Shape:\n"
        "    width: int = 4\n"
        "def build(): return torch.nn.Conv2d(3, Shape().width, 1)\n"
    )
    assert resolve(f"{nets}:build", NONE).name == "nets_of_data.py:build"


def test_wrong_factories(tmp_path: Path) -> None:
    nets = tmp_path / "my_nets.py"
    nets.write_text(
        "import torch\n"
        "def build(num_classes, width=1): return torch.nn.Conv2d(3, num_classes, 1)\n"
        "def broken(): raise RuntimeError('no weights here')\n"
        "def number(): return 3\n"
        "value = 4\n"
    )
    (tmp_path / "syntax.py").write_text("def (")
    for source, error, words in [
        (f"{nets}:buld", UsageError, "did you mean 'build'?"),
        (f"{nets}:build", UsageError, "missing a required argument: 'num_classes'"),
        (f"{nets}:broken", ExportError, "RuntimeError: no weights here"),
        (f"{nets}:number", ExportError, "returned int"),
        (f"{nets}:value", UsageError, "no function or class"),
        (f"{tmp_path}/my_net.py:build", UsageError, "did you mean 'my_nets.py'?"),
        (f"{tmp_path}/syntax.py:build", ExportError, "SyntaxError"),
        ("no_such_package.nets:build", ExportError, "ModuleNotFoundError"),
        (str(nets), UsageError, "name its factory"),
        (str(tmp_path / "absent.pt2"), UsageError, "does not exist"),
    ]:
        with pytest.raises(error) as caught:
            resolve(source, NONE)
        assert words in message(caught), source
    with pytest.raises(UsageError, match="belong to a factory"):
        resolve(str(tmp_path / "x.onnx"), ExportOptions(arguments={"a": 1}))


def test_weights_alone_are_no_network(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(saved(tmp_path, state(), "w.pt"), NONE)
    assert "segedge export nets.py:factory --checkpoint" in message(caught)
    (tmp_path / "broken.pt2").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ExportError, match="truncated"):
        resolve(tmp_path / "broken.pt2", NONE)


def test_networks_of_half_precision(tmp_path: Path) -> None:
    image = torch.rand(1, 3, *SIZE)
    torch.jit.trace(plain().half(), image.half()).save(tmp_path / "half.ts.pt")
    report = export(
        tmp_path / "half.ts.pt", tmp_path / "m.onnx", options=ExportOptions(size=Size(*SIZE))
    )
    assert report.channels == 5
    program = torch.export.export(plain().bfloat16(), (image.bfloat16(),))
    torch.export.save(program, tmp_path / "half.pt2")
    with pytest.raises(ExportError, match="fails on an input") as caught:
        export(tmp_path / "half.pt2", tmp_path / "m.onnx")
    assert "half precision: save it again after .float()" in (caught.value.fix or "")


def test_the_size_is_needed_and_must_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="input size of Tiny is not known"):
        export(plain(), tmp_path / "m.onnx")

    class Fussy(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.reshape(1, 3, 32, 32)

    with pytest.raises(ExportError, match="fails on an input of 1x3x64x96") as caught:
        export(Fussy(), tmp_path / "m.onnx", options=ExportOptions(size=Size(*SIZE)))
    assert "--size" in message(caught)
    assert list(tmp_path.iterdir()) == []


def test_unusable_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    for path, error, words in [
        (tmp_path / "m.pth", UsageError, "no .onnx file"),
        (tmp_path / "folder.onnx", UsageError, "is a folder"),
        (Path(), UsageError, "is a folder"),
        (tmp_path / "file" / "m.onnx", SinkError, "cannot write"),
    ]:
        with pytest.raises(error) as caught:
            export(plain(), path)
        assert words in message(caught)


def test_class_options(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("road\n\n sky \ncar\nman\ndog\n")
    size = Size(*SIZE)
    report = export(
        plain(), tmp_path / "a.onnx", options=ExportOptions(size=size, classes=str(names))
    )
    assert report.card.classes == ("road", "sky", "car", "man", "dog")
    with pytest.raises(UsageError, match="did you mean 'cityscapes'"):
        export(plain(), tmp_path / "b.onnx", options=ExportOptions(size=size, classes="cityscape"))
    with pytest.raises(CardError, match="class names and channels"):
        export(plain(), tmp_path / "b.onnx", options=ExportOptions(size=size, classes="a,b"))
    with pytest.raises(CardError, match=r"1: pascal(.|\n)*label sets *cityscapes, camvid, voc"):
        export(plain(), tmp_path / "b.onnx", options=ExportOptions(size=size, classes="pascal"))
    with pytest.raises(UsageError, match=r"no class set 'gone\.txt'"):
        export(plain(), tmp_path / "b.onnx", options=ExportOptions(size=size, classes="gone.txt"))


@pytest.mark.parametrize("classes", ["fg", "fg,", ("fg",), " fg "])
def test_one_name_is_the_class_of_one_channel(tmp_path: Path, classes: Any) -> None:
    options = ExportOptions(size=Size(*SIZE), classes=classes, threshold=0.5)
    report = export(Tiny(up, 1), tmp_path / "a.onnx", options=options)
    assert report.card.classes == ("background", "fg")


# ------------------------------------------------------------------ files that hold networks


def test_torchscript(tmp_path: Path) -> None:
    torch.jit.trace(plain().eval(), torch.zeros(1, 3, *SIZE)).save(tmp_path / "net.pt")
    report = export(
        str(tmp_path / "net.pt"), tmp_path / "m.onnx", options=ExportOptions(size=Size(*SIZE))
    )
    assert report.kind == "torchscript"
    assert report.tail.removed == ("Resize x8 bilinear",)
    assert report.card.provenance.exporter.startswith("torch.onnx script")


def test_program(tmp_path: Path) -> None:
    torch.export.save(
        torch.export.export(plain().eval(), (torch.zeros(1, 3, *SIZE),)), tmp_path / "net.pt2"
    )
    report = export(tmp_path / "net.pt2", tmp_path / "m.onnx")
    assert (report.kind, report.input_shape) == ("program", (1, 3, *SIZE))
    assert report.tail.cut
    with pytest.raises(UsageError, match="fixed at another size"):
        export(tmp_path / "net.pt2", tmp_path / "n.onnx", options=ExportOptions(size=Size(32, 32)))
    (tmp_path / "cut.pt2").write_bytes((tmp_path / "net.pt2").read_bytes()[:2000])
    with pytest.raises(ExportError, match="truncated"):
        export(tmp_path / "cut.pt2", tmp_path / "n.onnx")


def test_nothing_in_a_program_is_executed(tmp_path: Path) -> None:
    torch.export.save(
        torch.export.export(plain().eval(), (torch.zeros(1, 3, *SIZE),)), tmp_path / "net.pt2"
    )
    bomb = pickle.dumps(Bomb())
    expression = json.dumps({"as_expr": {"expr_str": "__import__('os').getcwd()"}})
    with zipfile.ZipFile(tmp_path / "net.pt2") as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    root = next(iter(parts)).partition("/")[0]
    for extra, data in [("constants/opaque_obj_0", bomb), ("models/x.json", expression.encode())]:
        with zipfile.ZipFile(tmp_path / "bad.pt2", "w") as archive:
            for name, part in {**parts, f"{root}/data/{extra}": data}.items():
                archive.writestr(name, part)
        with pytest.raises(ExportError, match="would run code"):
            resolve(tmp_path / "bad.pt2", NONE)
    weights = {
        name: saved_bytes(Bomb()) if "/data/sample_inputs/" in name else part
        for name, part in parts.items()
    }
    with zipfile.ZipFile(tmp_path / "bad.pt2", "w") as archive:
        for name, part in weights.items():
            archive.writestr(name, part)
    with pytest.raises(ExportError):
        resolve(tmp_path / "bad.pt2", NONE)
    assert not Path("/tmp/segedge-bomb").exists()


def saved_bytes(value: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_huggingface_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label={0: "road", 1: "sky", 2: "car"},
        label2id={"road": 0, "sky": 1, "car": 2},
    )
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": 64, "width": 96}, "image_mean": [0.5] * 3, "resample": 2})
    )
    report = export(tmp_path / "hf", tmp_path / "m.onnx")
    card = report.card
    assert (report.kind, card.classes) == ("huggingface", ("road", "sky", "car"))
    assert (card.input_size, card.stride, report.output_shape) == (Size(64, 96), 4, (1, 3, 16, 24))
    assert (card.mean, card.resize) == ((0.5, 0.5, 0.5), "pillow-bilinear")
    assert card.parity is not None
    assert card.parity.agreement >= 0.999
    assert np.isfinite(card.parity.max_logit_error or 0)
    (tmp_path / "hf" / "config.json").unlink()
    with pytest.raises(CardError, match=r"has no config\.json"):
        export(tmp_path / "hf", tmp_path / "n.onnx")


@pytest.mark.parametrize(
    ("channels", "words"),
    [(1, "wants 1: wrap it, network(image.mean(1, keepdim=True))"), (4, "wants 4")],
)
def test_networks_for_other_channels(tmp_path: Path, channels: int, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        export(
            torch.nn.Conv2d(channels, 2, 1), tmp_path / "m.onnx",
            options=ExportOptions(size=Size(32, 32)),
        )  # fmt: skip
    assert words in (caught.value.fix or "")


def test_networks_that_want_channels_last(tmp_path: Path) -> None:
    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(image.permute(0, 3, 1, 2))

    with pytest.raises(ExportError) as caught:
        export(Last(), tmp_path / "m.onnx", options=ExportOptions(size=Size(32, 40)))
    assert "permute(0, 2, 3, 1)" in (caught.value.fix or "")


def test_mean_and_std_of_0_to_255_are_told() -> None:
    with pytest.raises(UsageError) as caught:
        ExportOptions(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    assert caught.value.fix == "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
