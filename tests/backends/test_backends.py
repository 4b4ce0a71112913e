"""Every backend computes the same network; errors are told in our words."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from segedge.backends.base import Backend
from segedge.backends.fake import FakeBackend
from segedge.backends.registry import BACKENDS, open_backend, statuses
from segedge.card.card import ModelCard
from segedge.errors import BackendError, UsageError
from tests.processes import ended

onnx = pytest.importorskip("onnx")

LIBRARIES = {"onnxruntime": "onnxruntime", "openvino:f32": "openvino"}


@pytest.fixture(scope="module")
def conv_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A 1x1 convolution from 3 to 4 channels on 1x3x6x8, and its weights."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1) / 12
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 6, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4, 6, 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path_factory.mktemp("model") / "conv.onnx"
    onnx.save(model, path)
    return path, weights


def opened(path: Path, name: str) -> Backend:
    pytest.importorskip(LIBRARIES[name])
    return open_backend(path, name, threads=1).backend


@pytest.mark.parametrize("name", LIBRARIES)
def test_results_and_specs(conv_model: tuple[Path, np.ndarray], name: str) -> None:
    path, weights = conv_model
    backend = opened(path, name)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 3, 6, 8)).astype(np.float32)
    expected = np.einsum("oc,nchw->nohw", weights[:, :, 0, 0], image)
    (logits,) = backend.run([image])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert backend.specs[0][0].shape == (1, 3, 6, 8)
    assert backend.specs[1][0].name == "logits"
    assert backend.memory == "host"
    backend.close()


@pytest.mark.parametrize("name", LIBRARIES)
def test_outputs_are_written_in_place(conv_model: tuple[Path, np.ndarray], name: str) -> None:
    backend = opened(conv_model[0], name)
    image = np.ones((1, 3, 6, 8), np.float32)
    (first,) = backend.run([image])
    mine = np.full((1, 4, 6, 8), 7, np.float32)
    (returned,) = backend.run([image], [mine])
    assert returned is mine
    np.testing.assert_array_equal(mine, first)
    backend.run([image * 2], [np.empty_like(mine)])
    np.testing.assert_array_equal(mine, first)


@pytest.mark.parametrize("name", LIBRARIES)
def test_new_outputs_leave_those_of_the_call_before_alone(
    conv_model: tuple[Path, np.ndarray], name: str
) -> None:
    backend = opened(conv_model[0], name)
    mine = np.empty((1, 4, 6, 8), np.float32)
    backend.run([np.ones((1, 3, 6, 8), np.float32)], [mine])
    kept = mine.copy()
    (fresh,) = backend.run([np.full((1, 3, 6, 8), 2, np.float32)])
    np.testing.assert_array_equal(mine, kept)
    np.testing.assert_allclose(fresh, 2 * kept, rtol=1e-5)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_new_result_is_not_overwritten(conv_model: tuple[Path, np.ndarray], name: str) -> None:
    backend = opened(conv_model[0], name)
    (first,) = backend.run([np.ones((1, 3, 6, 8), np.float32)])
    kept = first.copy()
    backend.run([np.zeros((1, 3, 6, 8), np.float32)])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_wrong_shape_is_our_error(conv_model: tuple[Path, np.ndarray], name: str) -> None:
    backend = opened(conv_model[0], name)
    with pytest.raises(BackendError, match="failed while running") as caught:
        backend.run([np.ones((1, 3, 5, 8), np.float32)])
    assert "(1, 3, 5, 8)" in caught.value.facts["inputs"]
    assert "1x3x6x8" in caught.value.facts["expected"]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_closed_backend_says_so(conv_model: tuple[Path, np.ndarray], name: str) -> None:
    backend = opened(conv_model[0], name)
    tensor = np.zeros(backend.specs[0][0].fixed_shape, np.float32)
    backend.run([tensor])
    for _ in range(2):
        backend.close()
        with pytest.raises(UsageError, match="is closed\n  fix"):
            backend.run([tensor])


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_broken_file_is_our_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07" + bytes(100))
    with pytest.raises(BackendError, match=r"broken\.onnx"):
        opened(path, name)


def test_eager_runs_a_program(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Conv2d(3, 4, 1).eval()
    image = np.random.default_rng(1).standard_normal((1, 3, 6, 8)).astype(np.float32)
    program = torch.export.export(module, (torch.from_numpy(image),))
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    choice = open_backend(path, "auto", threads=1)
    assert choice.name == "eager"
    (logits,) = choice.backend.run([image])
    expected = module(torch.from_numpy(image)).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert choice.backend.specs[1][0].shape == (1, 4, 6, 8)


def test_an_error_without_a_word_is_told_by_its_class() -> None:
    torch = pytest.importorskip("torch")
    from segedge.backends.eager import EagerBackend

    class Silent(torch.nn.Module):
        fails = False

        def forward(self, x: object) -> object:
            if self.fails:
                raise NotImplementedError
            return x

    module = Silent()
    backend = EagerBackend(module, input_shape=(1, 3, 6, 8), threads=1)
    module.fails = True
    with pytest.raises(BackendError, match="failed while running") as caught:
        backend.run([np.zeros((1, 3, 6, 8), np.float32)])
    assert caught.value.facts["says"] == "NotImplementedError"


def test_eager_refuses_what_is_no_program(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "net.pt2"
    path.write_bytes(b"no zip")
    with pytest.raises(BackendError, match=r"no torch\.export program"):
        open_backend(path, "eager")
    with pytest.raises(UsageError, match=r"torch\.export programs"):
        open_backend(tmp_path / "net.onnx", "eager")


def test_auto_takes_the_first_that_works_and_says_why(
    conv_model: tuple[Path, np.ndarray],
) -> None:
    ready = [s.name for s in statuses() if s.ready and BACKENDS[s.name].auto]
    if not ready:
        pytest.skip("no inference library installed")
    choice = open_backend(conv_model[0], "auto", threads=1)
    assert choice.name in ready
    assert "fastest installed here" in choice.reason


def test_unknown_names_get_the_nearest(conv_model: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        open_backend(conv_model[0], "openvin")
    pytest.importorskip("openvino")
    with pytest.raises(UsageError, match="OpenVINO precision 'f23'"):
        open_backend(conv_model[0], "openvino:f23")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "openvino:f32", "eager"])
def test_an_engine_is_not_read_as_something_else(tmp_path: Path, name: str) -> None:
    """OpenVINO tries it as a file of each framework that it knows, and writes a page on stderr."""
    (tmp_path / "m.engine").write_bytes(b"plan")
    with pytest.raises(UsageError, match=r"m\.engine is a TensorRT engine") as caught:
        open_backend(tmp_path / "m.engine", name)
    assert "--backend tensorrt" in str(caught.value)


def test_the_fake_fits_its_card() -> None:
    card = ModelCard(
        classes=("dark", "bright"),
        palette_rgb=((0, 0, 0), (255, 255, 255)),
        input_height=16,
        input_width=24,
        stride=8,
    )
    backend = FakeBackend(card)
    dark = np.full((1, 3, 16, 24), -2.0, np.float32)
    (logits,) = backend.run([dark])
    assert logits.shape == (1, 2, 2, 3)
    assert (logits.argmax(axis=1) == 0).all()
    (logits,) = backend.run([-dark])
    assert (logits.argmax(axis=1) == 1).all()
    assert backend.calls == 2


def test_openvino_leaves_its_converter_alone_until_it_is_wanted(
    conv_model: tuple[Path, np.ndarray],
) -> None:
    """Its package imports a converter and telemetry along: a tenth of a second of every start."""
    pytest.importorskip("openvino")
    code = (
        "import sys\n"
        "from segedge.backends.registry import open_backend\n"
        "from pathlib import Path\n"
        f"open_backend(Path({str(conv_model[0])!r}), 'openvino', threads=1)\n"
        "found = {'openvino.tools.ovc', 'openvino_telemetry'} & set(sys.modules)\n"
        "import openvino\n"
        "print(sorted(found), len(openvino.convert_model(sys.argv[1]).outputs))\n"
        "from openvino import convert_model\n"
        "print(convert_model is openvino.convert_model, hasattr(openvino, 'no_such'))\n"
    )
    done = ended([sys.executable, "-c", code, conv_model[0]])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["[] 1", "True False"]


def test_a_ctrl_c_is_heard_after_several_openvino_models_are_closed(
    conv_model: tuple[Path, np.ndarray],
) -> None:
    """Each of OpenVINO's cores gives the thread a stack for signals; the last to go hands one back
    that is freed."""
    pytest.importorskip("openvino")
    code = """
import signal, sys
from pathlib import Path
from segedge.backends.registry import open_backend

opened = [open_backend(Path(sys.argv[1]), "openvino", threads=1) for _ in range(2)]
while opened:
    opened.pop(0).backend.close()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""
    assert ended([sys.executable, "-c", code, conv_model[0]], code=0).stdout == "heard\n"
