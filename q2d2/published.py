"""Names of the published checkpoints' entries and ours: a renaming in both directions, strict.

The published WavTokenizer and Q2D2 models carry entries that no forward pass uses (a SEANet decoder, and in Q2D2 a
second pair of projections); those are listed here, not silently skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from q2d2.codec.codec import Codec
from q2d2.errors import UserError

# (published, ours), applied to the start of a name or to a piece of it.
_PREFIXES = (
    ("feature_extractor.encodec.encoder.", "encoder."),
    ("feature_extractor.encodec.quantizer.quantizer.vq.project_in.0.", "bottleneck.project_in."),
    ("feature_extractor.encodec.quantizer.quantizer.vq.project_out.", "bottleneck.project_out."),
    ("feature_extractor.encodec.quantizer.vq.layers.0._codebook.", "bottleneck.codebook."),
    ("backbone.", "decoder."),
    ("head.", "head."),
)
_PIECES = (
    (".conv.conv.", ".conv."),
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
)
_UNUSED = re.compile(
    r"feature_extractor\.encodec\.(decoder\.|quantizer\.quantizer\.project_(in|out)\.)|head\.istft\.window$"
)


class CheckpointMismatch(UserError, ValueError):
    """Entries are missing, unexpected or of another shape; the message names them."""


def our_name(published: str) -> str | None:
    """Our name of a published entry, or None for one that no forward pass uses.

    Raises:
        CheckpointMismatch: the entry belongs to no known part.
    """
    if _UNUSED.match(published):
        return None
    for prefix, ours in _PREFIXES:
        if published.startswith(prefix):
            name = ours + published.removeprefix(prefix)
            if name.startswith("encoder."):
                for piece, replacement in _PIECES:
                    name = name.replace(piece, replacement)
            return name
    raise CheckpointMismatch(f"entry {published!r} belongs to no known part of the published models")


def load_published(codec: Codec, state: Mapping[str, Tensor]) -> None:
    """Fill `codec` from a published state dict (keys `feature_extractor.*`, `backbone.*`, `head.*`).

    Raises:
        CheckpointMismatch: an entry is unknown, missing, left over or of another shape.
    """
    renamed = {name: tensor for key, tensor in state.items() if (name := our_name(key)) is not None}
    own = codec.state_dict()
    problems = [f"missing {name}" for name in _sorted(own.keys() - renamed.keys())]
    problems += [f"unexpected {name}" for name in _sorted(renamed.keys() - own.keys())]
    problems += [
        f"{name}: shape {tuple(renamed[name].shape)}, expected {tuple(own[name].shape)}"
        for name in _sorted(own.keys() & renamed.keys())
        if own[name].shape != renamed[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointMismatch(f"published state does not fit this codec: {shown}")
    codec.load_state_dict(renamed)


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(names)
