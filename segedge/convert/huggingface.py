"""Networks of Hugging Face folders: which class loads one, and what makes it exportable."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segedge.card.geometry import Size
from segedge.card.huggingface import class_names_of, read_json
from segedge.card.labels import label_set, things_only
from segedge.errors import CheckpointError, ExportError, first_line
from segedge.graph.kit import quiet
from segedge.machine.optional import require
from segedge.reference.masks import SummedAt

SUMMED_AT: dict[str, SummedAt] = {
    "mask2former": Size(384, 384),
    "maskformer": "grid",
    "oneformer": "grid",
    "eomt": "input",
    "eomt_dinov3": "input",
}
"""Families that classify masks, and where their ``post_process_semantic_segmentation`` sums."""
_OBJECTS_ONLY = {
    "detr": "panoptic",
    "conditional_detr": "detection",
    "rf_detr": "instance",
    "videomt": "video",
    "sam": "promptable",
    "sam2": "promptable",
}
"""Families that find objects, and for what."""
_IDLE = ("criterion.", "auxiliary_head.", "num_batches_tracked")
"""Beginnings and endings of what no label depends on: losses, heads for them, counters."""
_TASK = "the task is semantic"
"""What OneFormer's own processor makes of the task ``semantic``."""
_PURPOSE = "load a Hugging Face folder"


def refuse_objects(folder: Path) -> None:
    """ExportError where a folder's network finds objects, and has no map of classes."""
    if _family(folder) in SUMMED_AT:
        _refuse_things(folder, class_names_of(folder))


def load_huggingface(folder: Path) -> tuple[Any, SummedAt | None]:
    """A folder's network, from one image tensor on, and where it sums its masks if it has any.

    ExportError: it is none that can be loaded.
    """
    family = _family(folder)
    transformers = require("transformers", purpose=_PURPOSE)
    summed_at = SUMMED_AT.get(family)
    loader = transformers.AutoModelForSemanticSegmentation
    if summed_at is not None:
        loader = transformers.AutoModelForUniversalSegmentation
    try:
        with _silence(transformers):
            module, loading = loader.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False,
                # Else an error about what does not fit, which does not name it.
                ignore_mismatched_sizes=True, output_loading_info=True,
                # torch's exporter cannot take apart all forms of its fused attention.
                **({} if summed_at is None else {"attn_implementation": "eager"}),
            )  # fmt: skip
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ExportError(
            f"{folder.name} holds no semantic segmentation network that transformers can load",
            facts={"says": first_line(error)},
        ) from error
    _refuse_made_up(folder, module, loading)
    module.float().eval()  # half precision is what weights are saved in, not what they compute in
    if hasattr(module, "attn_mask_probs"):
        _fix_attention_masks(module, folder)
    return (_with_task(module, folder) if family == "oneformer" else module), summed_at


def _family(folder: Path) -> str:
    """The folder's model type; ExportError where it finds objects and labels no pixels."""
    config = read_json(folder / "config.json")
    family = str(config.get("model_type", ""))
    kind = _OBJECTS_ONLY.get(family)
    if kind is not None:
        raise ExportError(
            f"{folder.name} is a {kind} checkpoint: it finds objects, and has no map of classes",
            facts={"found": f"model type {family}"},
            fix="take a checkpoint for semantic segmentation; of the families that do both, "
            + ", ".join(SUMMED_AT),
        )
    return family


def _refuse_made_up(folder: Path, module: Any, loading: Mapping[str, Any]) -> None:
    """CheckpointError where transformers filled in weights that the folder lacks, at random."""
    missing = sorted(
        (name for name in loading["missing_keys"] if not _is_idle(name)),
        key=lambda name: (not name.endswith("weight"), name),
    )
    misfits = {name: (tuple(have), tuple(want)) for name, have, want in loading["mismatched_keys"]}
    if not missing and not misfits:
        return
    expected = module.state_dict()
    facts = {"expected": f"{len(expected)} tensors of {type(module).__name__}"}
    if missing:
        first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        facts["missing"] = f"{len(missing)}: {first}"
    if misfits:
        name, (have, want) = sorted(misfits.items())[-1]  # weight, rather than bias
        facts["found"] = f"{len(misfits)} of another shape: {name} {have}; config.json says {want}"
    saved_as = read_json(folder / "config.json").get("architectures") or ["?"]
    facts["saved as"] = str(saved_as[0])
    raise CheckpointError(
        f"the weights of {folder.name} do not fit its network",
        facts=facts,
        fix="name a folder whose weights were saved with their segmentation head"
        if missing
        else "make config.json's id2label and the weights' classes the same",
    )


def _is_idle(name: str) -> bool:
    return name.startswith(_IDLE) or name.endswith(_IDLE)


@contextlib.contextmanager
def _silence(transformers: Any) -> Iterator[None]:
    """No bars and no tables of weights on stderr: what matters comes back as errors."""
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with quiet("transformers", below=logging.CRITICAL):
            yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _refuse_things(folder: Path, classes: Sequence[str]) -> None:
    """Classes of things alone have no name for most pixels, and would cover them all the same."""
    known = things_only(classes)
    if known:
        raise ExportError(
            f"{folder.name} is an instance checkpoint: its classes are things alone",
            facts={
                "found": f"{len(classes)} classes, the things of {known}; no road, no sky",
                "expected": f"{len(label_set(known))} classes: things and stuff",
            },
            fix="take the semantic or panoptic checkpoint of the same family",
        )


def _fix_attention_masks(module: Any, folder: Path) -> None:
    """EoMT keeps how often its attention is masked as a tensor, on whose value its code branches.

    Trained to the end, it masks none. In between it would mask at random.
    """
    shares = [float(share) for share in module.attn_mask_probs]
    if any(0.0 < share < 1.0 for share in shares):
        raise ExportError(
            f"{folder.name} masks its attention at random: its training was not finished",
            facts={"attn_mask_probs": ", ".join(f"{share:g}" for share in shares)},
            fix="train it to the end, or save it with model.attn_mask_probs.zero_()",
        )
    del module.attn_mask_probs
    module.attn_mask_probs = shares


def _with_task(module: Any, folder: Path) -> Any:
    """OneFormer with its text fixed: it reads from a sentence what it shall do."""
    torch: Any = require("torch", purpose="export a network")
    transformers = require("transformers", purpose=_PURPOSE)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{folder.name} has no tokenizer, and OneFormer reads its task from text",
            facts={"says": first_line(error)},
            fix="save it, too: processor.save_pretrained(FOLDER)",
        ) from error
    length = module.config.task_seq_len
    tokens = tokenizer(
        [_TASK], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )["input_ids"]

    class Semantic(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = module
            self.register_buffer("task", tokens)

        def forward(self, image: Any) -> Any:
            task = self.task.expand(image.shape[0], -1)
            return self.network(pixel_values=image, task_inputs=task)

    return Semantic().eval()
