"""Values that travel beside the card, each under a metadata key and with a version of its own.

A card says how a network is run and must be right; what is attached (a proof, statistics) helps
and may be missing: one that is malformed, or of a newer version, is told of and left aside.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from segedge.card.plain import from_plain, parse_json, to_plain
from segedge.errors import SegedgeError

PROOF_KEY, FAMILIAR_KEY = "segedge.proof", "segedge.familiar"
"""Where they lie among a file's metadata, for who hands them on unread."""
T = TypeVar("T")
log = logging.getLogger("segedge")


@dataclass(frozen=True)
class Attachment(Generic[T]):
    """A kind of value that a file may carry."""

    key: str
    """Where it lies among the file's metadata, e.g. ``segedge.proof``."""
    kind: type[T]
    """The frozen dataclass that it is."""
    version: int
    """Of its JSON; raised when a reader of the old one would go wrong."""
    most_bytes: int = 1 << 20
    """Of its JSON: what is longer is not even parsed."""

    def metadata(self, value: T) -> dict[str, str]:
        """The value as an entry of a file's metadata."""
        plain = {"version": self.version, **to_plain(value)}
        return {self.key: json.dumps(plain, separators=(",", ":"))}

    def read(self, metadata: Mapping[str, str]) -> T | None:
        """The value that a file carries, or None; what cannot be read is logged as a warning."""
        if self.key not in metadata:
            return None
        try:
            if len(metadata[self.key]) > self.most_bytes:
                raise ValueError(f"{len(metadata[self.key])} bytes, at most {self.most_bytes}")
            fields = parse_json(metadata[self.key])
            if not isinstance(fields, dict) or not isinstance(fields.get("version"), int):
                raise ValueError("it has no version")
            if fields["version"] > self.version:
                raise ValueError(f"version {fields['version']}, known are up to {self.version}")
            return from_plain(self.kind, fields)
        except (ValueError, TypeError, SegedgeError) as error:
            log.warning("%s in the model file is left aside: %s", self.key, error)
            return None
