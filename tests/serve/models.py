"""Small models to be served, and what an engine's builder would have left."""

from __future__ import annotations

from pathlib import Path

from tests.small_model import write_model


def write_batch_model(path: Path) -> Path:
    """The small model with a batch axis of any length."""
    import onnx

    from segedge.card.card import CARD_KEY, ModelCard

    write_model(path, has_card=True)
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    (entry,) = (e for e in proto.metadata_props if e.key == CARD_KEY)
    entry.value = ModelCard.from_json(entry.value).replace(dynamic=("batch",)).to_json()
    onnx.save(proto, path)
    return path


def write_plan(path: Path, *, flavour: str = "tensorrt", largest_batch: int | None = None) -> Path:
    """An engine file with its facts beside it; the plan itself is a header and zeros."""
    from segedge.card.card import ModelCard
    from segedge.engine.facts import EngineFacts, EngineTensor
    from segedge.engine.file import sha256, write_engine

    plan = b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(200)
    batch = 1 if largest_batch is None else None
    profile = ()
    if largest_batch is not None:
        profile = ((1, 3, 48, 64), (2, 3, 48, 64), (largest_batch, 3, 48, 64))
    facts = EngineFacts(
        model="small.onnx",
        onnx_sha256="0" * 64,
        plan_sha256=sha256(plan),
        plan_bytes=len(plan),
        flavour=flavour,
        version="10.13.3",
        gpu="Orin",
        capability="sm_87",
        targets=(),
        precision="fp16",
        options={},
        inputs=(EngineTensor("x", "float16", (batch, 3, 48, 64), profile),),
        outputs=(EngineTensor("logits", "float16", (batch, 2, 6, 8)),),
        built="2026-11-01T00:00:00Z",
        build_seconds=1.0,
        segedge="0.1.0",
        card=ModelCard(("dark", "bright"), ((0, 0, 0), (255, 255, 0)), 48, 64, stride=8),
    )
    write_engine(path, plan, facts)
    return path
