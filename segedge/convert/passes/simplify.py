"""Making an exported graph small: constants folded, duplicates merged, chatter dropped."""

from __future__ import annotations

from segedge.convert.options import PassReport
from segedge.convert.passes.alike import ALIKE
from segedge.convert.passes.float_bias import FLOAT_BIASES
from segedge.convert.passes.fold import FOLD
from segedge.convert.passes.merge import MERGE
from segedge.convert.passes.pooling import FUSE_POOLING
from segedge.convert.passes.rewrite import REWRITE
from segedge.graph.kit import Model


def simplify(model: Model) -> list[PassReport]:
    """Run all simplifications on a model with known shapes where they are static, in place."""
    passes = (FLOAT_BIASES, FOLD, REWRITE, FUSE_POOLING, ALIKE, MERGE)
    return [each(model) for each in passes]
