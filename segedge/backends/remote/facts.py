"""What a server's answers mean: the card in its configuration, and why a model cannot be used."""

from __future__ import annotations

from typing import Any

from segedge.backends.remote.address import RemoteAddress, RemoteOptions
from segedge.backends.remote.link import LinkError, LinkLateError, LinkLostError, ModelFacts
from segedge.card.card import CARD_KEY, ModelCard
from segedge.card.records import Provenance
from segedge.errors import BackendError, nearest_name


def card_of(facts: ModelFacts) -> ModelCard | None:
    """The card that a server's configuration carries, or None."""
    entry = facts.config.get("parameters", {}).get(CARD_KEY, {})
    text = entry.get("string_value", "")
    return ModelCard.from_json(text) if text else None


def differences(one: ModelCard | None, other: ModelCard | None) -> list[str]:
    """Fields in which two cards mean something else; where they are from is no matter."""
    if one is None or other is None:
        return [] if one is other else ["one of them is missing"]
    origin: dict[str, Any] = {"provenance": Provenance(), "parity": None}
    first, second = vars(one.replace(**origin)), vars(other.replace(**origin))
    return [name for name in first if first[name] != second[name]]


def checked(address: RemoteAddress, facts: ModelFacts) -> ModelFacts:
    """The same facts, of a model that is a network."""
    steps = facts.config.get("ensemble_scheduling", {}).get("step", ())
    if not steps:
        return facts
    names = [str(step.get("model_name")) for step in steps]
    network = names[len(names) // 2]
    raise BackendError(
        f"{address} is an ensemble: it takes frames, and segedge needs the network in it",
        facts={"steps": ", ".join(names)},
        fix=f"{address.server}/{network}",
    )


def missing(address: RemoteAddress, index: dict[str, str]) -> BackendError:
    """There is no such model, or it is not ready."""
    if address.model in index:
        return BackendError(
            f"{address} is not ready",
            facts={"says": index[address.model] or f"it has no version {address.version}"},
            fix="look at the server's log",
        )
    near = nearest_name(address.model, list(index))
    ready = [name for name, problem in index.items() if not problem]
    return BackendError(
        f"{address.server} has no model {address.model!r}"
        + (f"; did you mean {near!r}?" if near else ""),
        facts={"models": ", ".join(ready) or "none that is ready, or it does not tell"},
        fix="segedge triton MODEL -o model_repository/ adds one",
    )


def unreachable(address: RemoteAddress, options: RemoteOptions, error: LinkError) -> BackendError:
    """No server answers, or its answer says nothing of the model."""
    if isinstance(error, (LinkLateError, LinkLostError)):
        late = isinstance(error, LinkLateError)
        waited = f"no answer within {options.connect_seconds:g} s" if late else str(error)
        return BackendError(
            f"no server at {address.server}",
            facts={"found": waited},
            fix="start it: tritonserver --model-repository ... (gRPC is its port 8001, HTTP 8000)",
        )
    return BackendError(f"{address} cannot be read", facts={"says": str(error)})
