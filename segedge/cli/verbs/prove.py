"""`segedge prove`: a file gets a proof, by which it is checked wherever it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segedge.cli.console import print_prose, print_row
from segedge.cli.groups import Option
from segedge.errors import UsageError


def prove_command(
    file: Annotated[Path, typer.Argument(help="An ONNX file with its card.")],
    out: Annotated[
        Path | None, Option("The file to write; None: the proof goes into FILE.", "-o --out")
    ] = None,
    replace: Annotated[bool, "Take the place of a proof that the file has."] = False,
) -> None:
    """Write down what a file computes on test pictures, by ONNX Runtime without optimisations.

    `segedge export` does this with the original network. Here the file is taken at its word: what
    other backends make of it is compared with that.
    """
    from segedge.card.attachments import PROOF_KEY
    from segedge.card.modelfile import read_facts, require_card, with_metadata
    from segedge.card.proof import PROOF
    from segedge.convert.onnx_card import check_output
    from segedge.convert.proof import levels_of, prove
    from segedge.graph.kit import load_model
    from segedge.graph.typed import precision_of
    from segedge.machine.files import write_atomically

    card, facts = require_card(file), read_facts(file)
    before = PROOF.read(facts.metadata)
    if before is not None and not replace:
        raise UsageError(
            f"{file.name} carries a proof already",
            facts={"by": before.witness},
            fix=f"segedge doctor {file} checks it here; --replace takes this file at its word",
        )
    if out is not None:
        check_output(out, source=file)
    target = out or file
    if facts.external_data is not None and target.parent.resolve() != file.parent.resolve():
        raise UsageError(
            f"{file.name} has its weights in {facts.external_data.name}: it stays beside them",
            fix=f"segedge prove {file}",
        )
    precision = "int8" if card.quantization is not None else precision_of(load_model(file))
    proof = prove(file, card, precision=precision, levels=levels_of(before))
    data = with_metadata(file.read_bytes(), PROOF.metadata(proof))
    write_atomically(target, data, durable=True)
    size = len(PROOF.metadata(proof)[PROOF_KEY])
    print_prose("proof", f"{len(proof.answers)} pictures, {size / 1e3:.0f} kB, by {proof.witness}")
    print_row("wrote", str(target))
    print_row("next", f"segedge doctor {target}")
