"""From a torch module to an ONNX graph in memory; the file that talks to torch's exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.card.statistics import Channels
from segedge.convert.options import DynamicAxis
from segedge.convert.outputs import OutputSpec, named_leaves, output_spec
from segedge.convert.passes.usual_output import float_outputs
from segedge.convert.statistics import batch_norms
from segedge.errors import ExportError, SegedgeError, first_line
from segedge.graph.kit import Model, image_input, ir, quiet, shape_of
from segedge.machine.optional import require

_AXIS_NAMES = {0: "batch", 2: "height", 3: "width"}
_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
"""PyTorch's words where a convolution gets another number of channels than its weights have."""
_HALF = "segedge gives float32, its weights are of half precision: save it again after .float()"
_AXES: dict[DynamicAxis, tuple[int, ...]] = {"batch": (0,), "size": (2, 3)}


class TorchNetwork:
    """A torch module in evaluation mode: what it returns, outputs of it, its ONNX graph."""

    def __init__(self, module: Any, *, name: str, scripted: bool = False) -> None:
        """Wrap a ``torch.nn.Module`` from one image tensor to any nesting of tensors.

        TorchScript (``scripted``) needs the older exporter.
        """
        self._torch = require("torch", purpose="export a network")
        self._module = module
        self._name = name
        self._scripted = scripted
        self._head: Any = None
        self._indices: tuple[int, ...] = ()
        self.expected: dict[str, Channels] = {}
        """What the batch normalisations of the last graph expect, by its values' names."""

    @property
    def version(self) -> str:
        """Version of torch."""
        return str(self._torch.__version__)

    def outputs(self, size: Size, channels: int | None = None) -> list[OutputSpec]:
        """What the module returns for one image; ``channels`` are the classes that were named."""
        leaves = named_leaves(self._call(self._module, _noise((1, 3, size.height, size.width))))
        if any(isinstance(leaf, np.ndarray) for _, leaf in leaves):
            raise ExportError(
                f"{self._name} returns NumPy arrays, which cannot be traced",
                fix="return tensors: leave out .numpy() and all that follows it",
            )
        return [
            output_spec(
                name, tuple(leaf.shape), is_float=leaf.dtype.is_floating_point,
                network=size, channels=channels,
            )
            for name, leaf in leaves
        ]  # fmt: skip

    def select(self, *indices: int) -> None:
        """Make some outputs the network's only ones."""
        self._head, self._indices = _head_module(self._torch, self._module, indices), indices

    def __call__(self, tensor: NDArray[np.float32]) -> NDArray[Any]:
        """The first selected output for an N x 3 x H x W tensor."""
        return self.run(tensor)[0]

    def run(self, tensor: NDArray[np.float32]) -> list[NDArray[Any]]:
        """The selected outputs for an N x 3 x H x W tensor."""
        bfloat16 = self._torch.bfloat16  # which NumPy lacks
        leaves = (leaf.detach().cpu() for leaf in self._call(self._head, tensor))
        return [(leaf.float() if leaf.dtype == bfloat16 else leaf).numpy() for leaf in leaves]

    def to_onnx(self, size: Size, *, opset: int, dynamic: Sequence[DynamicAxis]) -> Model:
        """Export the selected outputs, traced at a size.

        The opset is only asked for: what was written must be read back.
        """
        # A batch of one is taken for a constant by torch.export.
        batch = 2 if "batch" in dynamic else 1
        example = self._tensor(_noise((batch, 3, size.height, size.width)))
        axes = {axis: _AXIS_NAMES[axis] for kind in dynamic for axis in _AXES[kind]}
        export = self._script_to_onnx if self._scripted else self._dynamo_to_onnx
        try:
            with _silence(), environment("TRANSFORMERS_DISABLE_TORCH_CHECK"), self._torch.no_grad():
                model = export(example, opset, axes)
        except SegedgeError:
            raise
        except Exception as error:  # torch.onnx and torch.export raise dozens of classes
            raise _refused(self._name, error) from error
        _check_dynamic(model, axes, self._name)
        float_outputs(model)
        return model

    def _dynamo_to_onnx(self, example: Any, opset: int, axes: dict[int, str]) -> Model:
        program = self._torch.onnx.export(
            self._head,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=["image"],
            dynamic_shapes=({**axes},) if axes else None,
            external_data=False,
            verbose=False,
            optimize=False,
        )
        self.expected = batch_norms(program.model)
        program.optimize()  # which folds them
        return program.model

    def _script_to_onnx(self, example: Any, opset: int, axes: dict[int, str]) -> Model:
        """TorchScript goes unwrapped through the older exporter: torch.export refuses it."""
        onnx = require("onnx", purpose="export a network")
        buffer = io.BytesIO()
        self._torch.onnx.export(
            self._module,
            (example,),
            buffer,
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            dynamic_axes={"image": axes} if axes else None,
            # As EVAL for a module in evaluation mode, but for its norms, which we fold ourselves.
            training=self._torch.onnx.TrainingMode.PRESERVE,
        )
        model = ir().from_proto(onnx.load_from_string(buffer.getvalue()))
        self.expected = batch_norms(model)
        model.graph.outputs[:] = [model.graph.outputs[index] for index in self._indices]
        return model

    def _tensor(self, array: NDArray[np.float32]) -> Any:
        return self._torch.tensor(array)  # a copy, which the network may write into

    def _call(self, module: Any, array: NDArray[np.float32]) -> Any:
        try:
            with self._torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return module(self._tensor(array))
        except Exception as error:  # the user's own code may raise anything
            raise ExportError(
                f"{self._name} fails on an input of {'x'.join(map(str, array.shape))}",
                facts={"says": f"{type(error).__name__}: {first_line(error)}"},
                fix=_HALF if self._is_half(module) else _input_fix(str(error)),
            ) from error

    def _is_half(self, module: Any) -> bool:
        halves = (self._torch.float16, self._torch.bfloat16)
        return any(value.dtype in halves for value in module.state_dict().values())


def _head_module(torch: Any, module: Any, indices: Sequence[int]) -> Any:
    """A module that returns some leaves of what another returns."""

    class Head(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, image: Any) -> Any:
            leaves = named_leaves(self.network(image))
            return tuple(leaves[index][1] for index in indices)

    head = Head()
    # Exported programs refuse eval(); they are what they were exported as.
    with contextlib.suppress(NotImplementedError):
        head.eval()
    return head


def _input_fix(says: str) -> str:
    """What mends a network that refuses its input: mostly its size, at times its channels."""
    if "BFloat16" in says or "Half" in says:
        return "segedge gives float32, and brings weights to it: leave .half() and .bfloat16() out"
    match = _CHANNELS.search(says)
    if "required positional argument" in says:
        return "wrap it in a module whose forward takes the image alone"
    if match is None:
        return "--size HxW must be one that the network takes; often a multiple of 32"
    wanted, found = int(match[1]), int(match[2])
    if found != 3:
        return "segedge gives N x 3 x H x W: wrap it, network(image.permute(0, 2, 3, 1))"
    wrap = "network(image.mean(1, keepdim=True))" if wanted == 1 else "one that takes 3 channels"
    return f"segedge gives 3 colour channels, the network wants {wanted}: wrap it, {wrap}"


def _noise(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _check_dynamic(model: Model, axes: dict[int, str], name: str) -> None:
    """torch.export silently fixes an axis that the network's code depends on."""
    shape = shape_of(image_input(model)) or ()
    fixed = [label for axis, label in axes.items() if shape[axis] is not None]
    if fixed:
        raise ExportError(
            f"{name} cannot have a dynamic {' or '.join(fixed)}",
            facts={"found": f"the exporter fixed it at {[shape[a] for a in axes]}"},
            fix="its code depends on the number; export without --dynamic, one file a size",
        )


def _refused(name: str, error: Exception) -> ExportError:
    """The innermost cause of torch's nested export errors, in one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return ExportError(
        f"torch cannot export {name}",
        facts={"says": f"{type(cause).__name__}: {first_line(cause)}"},
        fix="rewrite what it names in the module's forward, or export a simpler wrapper of it",
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Exporters print, warn and log; what matters comes back as errors and reports."""
    names = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "onnxscript", "onnx_ir")
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        quiet(*names, below=logging.CRITICAL),
    ):
        warnings.simplefilter("ignore")
        yield


def weights_only_loading() -> contextlib.AbstractContextManager[None]:
    """Make every ``torch.load`` below refuse pickled objects, whatever it was asked for."""
    return environment("TORCH_FORCE_WEIGHTS_ONLY_LOAD")


@contextlib.contextmanager
def environment(name: str) -> Iterator[None]:
    """Set a switch of a library's for a while.

    ``TRANSFORMERS_DISABLE_TORCH_CHECK``: the checks of shapes inside some networks, which hold or
    have raised when the outputs were looked at, are written into the graph else.
    """
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
