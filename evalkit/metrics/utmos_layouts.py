"""Names of UTMOS's weights: in the file of SpeechMOS, and in the network of `utmos_pytorch`.

The original checkpoint (UTMOS22 strong learner, step 7459) is a Lightning module's; `utmos_pytorch` keeps its names.
SpeechMOS (tarepan/SpeechMOS, speechmos/utmos22/strong/model.py and fairseq_alt.py) took the same tensors, renamed:
the network's parts are direct attributes, the projection has no dropout in the middle (so layer 3 is 2), and of the
tables of listening tests and of judges it keeps one row each, the one that is used. No tensor is reshaped.
Its 225 tensors are 102,772,865 float32 values, which is its published length but for 0.02 % of archive overhead.
Both files hold the weight normalization of the positional convolution as weight_g and weight_v, and also
`mask_emb`, which only wav2vec's own pretraining uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from evalkit.metrics.signals import Unavailable

# The listener and the listening test that scores are predicted for, as in the authors' own predictor.
JUDGE = 288
DOMAIN = 0

_WAV2VEC = "feature_extractors.0.ssl_model."
# Prefix in SpeechMOS, prefix in the package.
_PREFIXES = (
    ("wav2vec2.", _WAV2VEC),
    ("blstm.", "output_layers.0.decoder_rnn."),
    ("projection.0.", "output_layers.1.net.0."),
    ("projection.2.", "output_layers.1.net.3."),
)
# Parameters that no score depends on, and that the package's network has not.
_UNUSED = frozenset({f"{_WAV2VEC}mask_emb"})


class _Table(NamedTuple):
    """An embedding of which SpeechMOS keeps the one row `row` under the name `short`."""

    short: str
    name: str
    rows: int
    row: int


_TABLES = (
    _Table("domain_emb", "feature_extractors.1.embedding.weight", 3, DOMAIN),
    _Table("judge_emb", "output_layers.0.judge_embedding.weight", 3000, JUDGE),
)


class UnknownLayout(Unavailable):
    """Names or shapes that belong to neither known layout; the message gives them."""


def to_package_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of either layout under the names of `utmos_pytorch.utmos_torch.UTMOSModel`.

    Tensors are shared, not copied, but for SpeechMOS's two embeddings: their tables are NaN in all rows that its file
    lacks, so that no other judge can be asked for unnoticed.

    Raises:
        UnknownLayout: a name follows no rule, or an embedding is not one row. What is missing or has another shape
            shows when the result is loaded into the network, strictly.
    """
    if any(table.name in state for table in _TABLES):
        return {name: tensor for name, tensor in state.items() if name not in _UNUSED}
    tables = {table.short: table for table in _TABLES}
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if table := tables.get(name):
            renamed[table.name] = _whole_table(tensor, table)
        elif (new := _renamed(name)) is None:
            unknown.append(name)
        elif new not in _UNUSED:
            renamed[new] = tensor
    if unknown:
        raise UnknownLayout(f"weights of UTMOS: {len(unknown)} unknown names: {', '.join(unknown[:10])}")
    return renamed


def to_speechmos_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_package_layout`, without what that leaves out: from the package's names to SpeechMOS's."""
    back = {
        short + name.removeprefix(long): tensor
        for name, tensor in state.items()
        for short, long in _PREFIXES
        if name.startswith(long)
    }
    return back | {table.short: state[table.name][table.row : table.row + 1] for table in _TABLES}


def _renamed(name: str) -> str | None:
    return next((long + name.removeprefix(short) for short, long in _PREFIXES if name.startswith(short)), None)


def _whole_table(row: Tensor, table: _Table) -> Tensor:
    if row.ndim != 2 or row.shape[0] != 1:
        raise UnknownLayout(f"weights of UTMOS: {table.short} has shape {tuple(row.shape)}, expected one row")
    whole = row.new_full((table.rows, row.shape[1]), math.nan)
    whole[table.row] = row[0]
    return whole
