"""Finds every TensorRT attribute and call in segedge's sources, by following the objects.

A small type inference: names of parameters (`builder`, `network` ...) and what methods return tell
the class of an object; every attribute of such an object is a use. `lost` are attributes that look
like TensorRT's on objects that were not followed: then this table needs a line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "segedge"
FILES = [*sorted(PACKAGE.glob("engine/**/*.py")), PACKAGE / "backends" / "tensorrt.py"]
GUARD_FILE = "versions.py"

CLASS_OF_NAME = {
    "trt": "module",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime_config": "IRuntimeConfig",
    "runtime_cache": "IRuntimeCache",
    "timing_cache": "ITimingCache",
    "layer": "ILayer",
}
"""What a name stands for, where it is a parameter annotated Any or an attribute of self."""

RETURNS = {
    ("Builder", "create_network"): "INetworkDefinition",
    ("Builder", "create_builder_config"): "IBuilderConfig",
    ("Builder", "create_optimization_profile"): "IOptimizationProfile",
    ("Builder", "build_serialized_network"): "IHostMemory",
    ("INetworkDefinition", "get_input"): "ITensor",
    ("INetworkDefinition", "get_output"): "ITensor",
    ("INetworkDefinition", "get_layer"): "ILayer",
    ("ILayer", "get_output"): "ITensor",
    ("OnnxParser", "get_error"): "ParserError",
    ("Runtime", "deserialize_cuda_engine"): "ICudaEngine",
    ("ICudaEngine", "create_engine_inspector"): "EngineInspector",
    ("ICudaEngine", "create_runtime_config"): "IRuntimeConfig",
    ("ICudaEngine", "create_execution_context"): "IExecutionContext",
    ("IRuntimeConfig", "create_runtime_cache"): "IRuntimeCache",
    ("IBuilderConfig", "create_timing_cache"): "ITimingCache",
    ("IBuilderConfig", "get_timing_cache"): "ITimingCache",
}
FUNCTIONS = {
    "create_context": ("IExecutionContext", "IRuntimeCache"),
    "parse_network": ("INetworkDefinition",),
}
"""What segedge's own functions give."""
CLASSES = sorted({*CLASS_OF_NAME.values(), *RETURNS.values()} - {"module"})
MEMBERS = ("__members__", "name")
"""What every enum has."""


@dataclass(frozen=True)
class Use:
    """One attribute, or one call of it."""

    file: str
    line: int
    owner: str
    """Class name; ``module``, or ``type:X`` for a class of the module."""
    attribute: str
    arguments: tuple[int, tuple[str, ...]] | None = None
    """Number of positional arguments and names of the others, where it is called."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.owner}.{self.attribute}"


@dataclass
class Collector(ast.NodeVisitor):
    """Walks one file."""

    file: str
    suspicious: frozenset[str]
    uses: list[Use] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    scopes: list[dict[str, str]] = field(default_factory=lambda: [{}])
    calls: dict[int, ast.Call] = field(default_factory=dict)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        scope = {}
        for argument in (*node.args.args, *node.args.kwonlyargs):
            annotated = argument.annotation is not None and ast.unparse(argument.annotation)
            if annotated == "Any" and argument.arg in CLASS_OF_NAME:
                scope[argument.arg] = CLASS_OF_NAME[argument.arg]
        self.scopes.append(scope)
        self.generic_visit(node)
        self.scopes.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._bind_elements(node.target, node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._bind_elements(node.target, node.iter)
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        for generator in node.generators:
            self.visit(generator)
        self.visit(node.key)
        self.visit(node.value)

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> None:
        for generator in node.generators:
            self.visit(generator)
        self.visit(node.elt)

    def visit_Call(self, node: ast.Call) -> None:
        self.calls[id(node.func)] = node
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self.class_of(node.value)
        if owner is not None:
            call = self.calls.get(id(node))
            arguments = None
            if call is not None and not any(isinstance(a, ast.Starred) for a in call.args):
                arguments = len(call.args), tuple(k.arg or "" for k in call.keywords)
            self.uses.append(Use(self.file, node.lineno, owner, node.attr, arguments))
        elif node.attr in self.suspicious:
            self.lost.append(f"{self.file}:{node.lineno} {ast.unparse(node)}")
        self.generic_visit(node)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, part in zip(target.elts, value.elts, strict=True):
                self._bind(one, part)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Call):
            kinds = FUNCTIONS.get(ast.unparse(value.func), ())
            for one, kind in zip(target.elts, kinds, strict=False):
                if isinstance(one, ast.Name):
                    self.scopes[-1][one.id] = kind
        elif isinstance(target, ast.Name):
            kind = self.class_of(value)
            if kind is not None:
                self.scopes[-1][target.id] = kind

    def _bind_elements(self, target: ast.expr, iterable: ast.expr) -> None:
        kind = self.class_of(iterable)
        if isinstance(target, ast.Name) and kind is not None and kind.startswith("list:"):
            self.scopes[-1][target.id] = kind.removeprefix("list:")

    def class_of(self, node: ast.expr) -> str | None:
        """The TensorRT class of an expression, or None."""
        if isinstance(node, ast.Name):
            return next((s[node.id] for s in reversed(self.scopes) if node.id in s), None)
        if isinstance(node, ast.Attribute):
            return self._class_of_attribute(node)
        if isinstance(node, ast.Call):
            if (own := FUNCTIONS.get(ast.unparse(node.func))) is not None:
                return own[0] if len(own) == 1 else None
            kind = self.class_of(node.func)
            if kind is None or not kind.startswith(("type:", "method:")):
                return None
            return kind.partition(":")[2]
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            for generator in node.generators:
                self._bind_elements(generator.target, generator.iter)
            kind = self.class_of(node.elt)
            return f"list:{kind}" if kind is not None else None
        if isinstance(node, ast.BoolOp):
            return next((k for k in map(self.class_of, node.values) if k is not None), None)
        return None

    def _class_of_attribute(self, node: ast.Attribute) -> str | None:
        if node.attr == "module":
            return "module"
        owner = self.class_of(node.value)
        if owner == "module":
            return f"type:{node.attr}"
        if owner is not None and (owner, node.attr) in RETURNS:
            return f"method:{RETURNS[owner, node.attr]}"
        if owner is not None and owner.startswith("type:") and node.attr == "Severity":
            return f"type:{owner[5:]}.Severity"
        on_self = isinstance(node.value, ast.Name) and node.value.id == "self"
        return CLASS_OF_NAME.get(node.attr.lstrip("_")) if on_self else None


def collect(suspicious: Iterable[str]) -> tuple[list[Use], list[str]]:
    """Every use in segedge, and the attributes that look like one but were not followed."""
    uses: list[Use] = []
    lost: list[str] = []
    for path in FILES:
        collector = Collector(path.name, frozenset(suspicious))
        collector.visit(ast.parse(path.read_text(encoding="utf-8")))
        uses += collector.uses
        lost += collector.lost
    return uses, lost
