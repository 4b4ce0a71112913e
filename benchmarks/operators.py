"""Which operators a backend computes otherwise than ONNX Runtime and torch do, or refuses.

Each operator that segmentation networks contain is a network of its own, once for each combination
of its attributes. The truth is ONNX Runtime running it as it stands, with its optimisations off,
and torch where torch has the operator. Beside them: ONNX Runtime with its optimisations,
OpenVINO in float32, and TensorRT for RTX, which here can parse (and with ``--build`` build).

    python benchmarks/operators.py [--only Resize ...] [--backend NAME ...] [--build] [--save]
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from document import Document, Figure
from harness import save, saving_parser, say_machine
from numpy.typing import NDArray
from sweep import layout, pointwise, spatial
from sweep.case import Case

from segedge.errors import SegedgeError
from segedge.machine.environment import Environment
from segedge.machine.onnx_session import Session

SAME = 1e-4
"""Largest difference that is rounding, as a share of the values' span (at least one)."""
INCLUDES = {
    "same": "cases whose result is ONNX Runtime's without optimisations, but for rounding",
    "differs": "cases with another result, or of another shape",
    "refused": "cases that cannot be opened; of `truth`: by ONNX Runtime itself, counted nowhere",
    "taken": "cases that TensorRT for RTX parses, or builds with --build; not run",
}
Computed = Callable[[Case, Path], "NDArray[Any] | None"]
"""A case's result; None where a backend can only take it."""


@dataclass(frozen=True)
class Found:
    """A case on a backend."""

    case: str
    verdict: str
    """``same``, ``differs``, ``refused`` or ``taken``."""
    detail: str = ""


def all_cases(only: tuple[str, ...] = ()) -> list[Case]:
    """Every case, or those of some operators."""
    families = (spatial, pointwise, layout)
    found = [case for family in families for case in family.cases()]
    return [case for case in found if not only or case.operator in only]


def truth(case: Case) -> NDArray[Any]:
    """ONNX Runtime, node by node."""
    return Session(case.model(), optimise=False)(case.image())


def optimised(case: Case, path: Path) -> NDArray[Any]:
    """ONNX Runtime as it is used."""
    return Session(path)(case.image())


def openvino(case: Case, path: Path) -> NDArray[Any]:
    """OpenVINO in float32."""
    from segedge.backends.openvino import OpenVinoBackend

    with closing(OpenVinoBackend(path, threads=1, precision="f32")) as backend:
        return backend.run([case.image()])[0]


def torch(case: Case, path: Path) -> NDArray[Any]:
    """PyTorch, where the case says how."""
    import torch as library

    assert case.torch is not None
    found: NDArray[Any] = case.torch(library.from_numpy(case.image())).numpy()
    return found


def parsed(case: Case, path: Path) -> None:
    """TensorRT for RTX takes the network."""
    from segedge.engine.builder.log import build_log, recorded
    from segedge.engine.builder.network import parse_network
    from segedge.engine.flavour import load_flavour

    flavour = load_flavour("tensorrt_rtx")
    with recorded(flavour) as log:
        builder = flavour.module.Builder(build_log(flavour))
        parse_network(
            flavour, builder, log, model=path.read_bytes(), name=case.name, path=str(path)
        )


def built(case: Case, path: Path) -> None:
    """TensorRT for RTX makes an engine of it."""
    from segedge.engine.builder.builder import build_plan
    from segedge.engine.flavour import load_flavour

    build_plan(path, flavour=load_flavour("tensorrt_rtx"))


BACKENDS: dict[str, Computed] = {
    "torch": torch,
    "onnxruntime": optimised,
    "openvino": openvino,
    "tensorrt_rtx": parsed,
}


def sweep(cases: list[Case], backends: dict[str, Computed]) -> Iterator[tuple[str, Found]]:
    """Each case on each backend."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.onnx"
        for case in cases:
            path.write_bytes(case.model())
            try:
                wanted = truth(case)
            except SegedgeError as error:
                yield "truth", Found(case.name, "refused", _words(error))
                continue
            for name, compute in backends.items():
                if name != "torch" or case.torch is not None:
                    yield name, found_of(case, wanted, compute, path)


def found_of(case: Case, wanted: NDArray[Any], compute: Computed, path: Path) -> Found:
    """What comes of a case on a backend."""
    try:
        result = compute(case, path)
    except SegedgeError as error:
        return Found(case.name, "refused", _words(error))
    if result is None:
        return Found(case.name, "taken")
    return Found(case.name, *difference(wanted, result))


def difference(wanted: NDArray[Any], found: NDArray[Any]) -> tuple[str, str]:
    """Whether two results are the same but for rounding, and if not how far they are apart."""
    if wanted.shape != found.shape:
        return "differs", f"{_shape(found)} instead of {_shape(wanted)}"
    wide, other = wanted.astype(np.float64), found.astype(np.float64)
    apart = np.array(np.abs(other - wide), ndmin=1)
    apart[~np.isfinite(apart)] = np.inf
    span = max(1.0, float(np.ptp(wide))) if wide.size else 1.0
    wrong = apart > SAME * span
    if not wrong.any():
        return "same", ""
    return (
        "differs",
        f"{100 * wrong.mean():.0f} % of the values, up to {apart.max() / span:.2g} of the span",
    )


def _shape(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape))


def _words(error: SegedgeError) -> str:
    return "; ".join([error.headline, *error.facts.values()])[:120]


def figures_of(counts: dict[str, Counter[str]]) -> tuple[Figure, ...]:
    """How many cases came out how."""
    return tuple(
        Figure.of(name, verdict, [[float(number)]], unit="cases")
        for name, count in counts.items()
        for verdict, number in count.items()
    )


def main() -> None:
    """Run, print, save."""
    parser = saving_parser(__doc__)
    parser.add_argument("--only", nargs="*", default=(), help="operators")
    parser.add_argument("--backend", nargs="*", choices=tuple(BACKENDS), default=tuple(BACKENDS))
    parser.add_argument("--build", action="store_true", help="TensorRT builds, too (slow)")
    options = parser.parse_args()
    environment = Environment.capture()
    say_machine(environment)
    backends = {name: BACKENDS[name] for name in options.backend}
    if options.build and "tensorrt_rtx" in backends:
        backends["tensorrt_rtx"] = built
    cases = all_cases(tuple(options.only))
    counts: dict[str, Counter[str]] = {}
    notes: dict[str, dict[str, str]] = {}
    for name, found in sweep(cases, backends):
        counts.setdefault(name, Counter())[found.verdict] += 1
        if found.verdict in ("differs", "refused"):
            notes.setdefault(name, {})[found.case] = f"{found.verdict}: {found.detail}"
            print(f"{name:14}{found.verdict:9}{found.case}: {found.detail}", flush=True)
    for name, count in counts.items():
        print(f"{name:14}" + ", ".join(f"{n} {verdict}" for verdict, n in count.most_common()))
    if options.save:
        details = {"cases": len(cases), "notes": notes}
        settings = {"same within": SAME}
        document = Document(
            "operators", INCLUDES, figures_of(counts), settings, details, {}, environment
        )
        save(document)


if __name__ == "__main__":
    main()
