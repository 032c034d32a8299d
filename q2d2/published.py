"""The published checkpoints' names of a codec's entries, for loading and for export; strict both ways.

The published WavTokenizer and Q2D2 files carry entries that no forward pass uses (a SEANet decoder, and in Q2D2 a
second pair of projections), and those of training add discriminators; these are listed here, not silently skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from q2d2.codec.codec import Codec
from q2d2.errors import UserError

_PREFIXES = {"encoder": "feature_extractor.encodec.encoder.", "decoder": "backbone.", "head": "head."}
_QUANTIZER = "feature_extractor.encodec.quantizer."
# Pieces of the encoder's names, ours first: the published code wraps each convolution once more and uses the older
# form of weight normalization.
_PIECES = (
    (".conv.", ".conv.conv."),
    (".parametrizations.weight.original0", ".weight_g"),
    (".parametrizations.weight.original1", ".weight_v"),
)
_UNUSED = re.compile(
    r"feature_extractor\.encodec\.(decoder\.|quantizer\.quantizer\.project_(in|out)\.)"
    r"|head\.istft\.window$"
    r"|(multiperioddisc|multiresddisc|dac|dacdiscriminator)\."
)
_SHOWN = 5


class CheckpointMismatch(UserError, ValueError):
    """Entries are missing, unexpected or of another shape; the message names them."""


def published_state(codec: Codec) -> dict[str, Tensor]:
    """The state of `codec` under the published names, with `weight_g` and `weight_v` for weight normalization.

    Entries that no forward pass uses are left out, so the published code loads it with `strict=False`. The tensors
    share memory with the codec's own.
    """
    state: dict[str, Tensor] = {}
    for part, prefix in _PREFIXES.items():
        for name, tensor in codec.get_submodule(part).state_dict().items():
            if part == "encoder":
                for ours, published in _PIECES:
                    name = name.replace(ours, published)
            state[prefix + name] = tensor
    return state | {_QUANTIZER + name: tensor for name, tensor in codec.bottleneck.published_state().items()}


def load_published(codec: Codec, state: Mapping[str, Tensor]) -> None:
    """Fill `codec` from a published state dict (keys `feature_extractor.*`, `backbone.*`, `head.*`).

    The tiling and levels of Q2D2 are not in the file: `codec` has to be built with the right ones.

    Raises:
        CheckpointMismatch: an entry is missing, unknown or of another shape; `codec` is unchanged then.
    """
    own = published_state(codec)
    given = {name: tensor for name, tensor in state.items() if not _UNUSED.match(name)}
    problems = [f"missing {name}" for name in sorted(own.keys() - given.keys())]
    problems += [f"unexpected {name}" for name in sorted(given.keys() - own.keys())]
    problems += [
        f"{name}: shape {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
        for name in sorted(own.keys() & given.keys())
        if own[name].shape != given[name].shape
    ]
    if problems:
        rest = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointMismatch(f"published state does not fit this codec: {'; '.join(problems[:_SHOWN])}{rest}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])
