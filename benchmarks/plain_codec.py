"""Codec and discriminators as the published code runs them: the older weight normalization anew in each forward, an
explicit attention matrix, periods as columns.
"""

from __future__ import annotations

import copy
import warnings
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils import weight_norm as old_weight_norm

from q2d2.codec import Codec
from q2d2.codec.decoder import PositionAttention
from q2d2.training.discriminators import SLOPE, Discriminators, Judgement, PeriodPart

Module = TypeVar("Module", bound=nn.Module)


class ExplicitAttention(nn.Module):
    """PositionAttention by softmax(Q K^T / sqrt(C)) V, with the matrix of all pairs of frames."""

    def __init__(self, attention: PositionAttention) -> None:
        super().__init__()
        for name in ("norm", "q", "k", "v", "proj_out"):
            setattr(self, name, getattr(attention, name))

    def forward(self, features: Tensor) -> Tensor:
        normed = self.norm(features)
        query, key, value = self.q(normed), self.k(normed), self.v(normed)
        weights = torch.bmm(query.transpose(1, 2), key) * query.shape[1] ** -0.5
        attended = torch.bmm(value, weights.softmax(dim=-1).transpose(1, 2))
        return features + self.proj_out(attended)


class PeriodColumns(nn.Module):
    """PeriodPart with the transposed image: `period` columns."""

    def __init__(self, part: PeriodPart) -> None:
        super().__init__()
        self.period, self.num_skipped = part.period, part.num_skipped
        self.convs = nn.ModuleList(_old_style(layer, transposed=True) for layer in part.convs)
        self.conv_post = _old_style(part.conv_post, transposed=True)

    def forward(self, audio: Tensor) -> Judgement:
        if missing := -audio.shape[-1] % self.period:
            audio = F.pad(audio, (0, missing), mode="reflect")
        maps = audio.unflatten(-1, (-1, self.period)).unsqueeze(1)
        features = [maps := F.leaky_relu(layer(maps), SLOPE) for layer in self.convs]
        return Judgement(features[self.num_skipped :], self.conv_post(features[-1]))


def with_old_weight_norm(module: Module) -> Module:
    """A copy whose normalized weights are made by the older form of weight normalization, anew in each forward."""
    plain = copy.deepcopy(module)
    for parent in list(plain.modules()):
        for name, layer in list(parent.named_children()):
            if parametrize.is_parametrized(layer, "weight"):
                setattr(parent, name, _old_style(layer))
    return plain


@torch.no_grad()
def _old_style(layer: nn.Module, transposed: bool = False) -> nn.Module:
    # A new layer: taking the parametrization off a copy would take it off the class that the original shares.
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    kind = nn.Conv1d if isinstance(layer, nn.Conv1d) else nn.Conv2d
    turn = slice(None, None, -1 if transposed else 1)
    shape = (layer.kernel_size[turn], layer.stride[turn], layer.padding[turn])
    plain = kind(layer.in_channels, layer.out_channels, *shape)  # type: ignore[arg-type]
    weight = layer.weight.transpose(-1, -2) if transposed else layer.weight
    plain.load_state_dict({"weight": weight, "bias": layer.bias})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return old_weight_norm(plain)


def plain_codec(codec: Codec) -> Codec:
    """A copy of `codec` as a plain module graph, with the same outputs."""
    plain = with_old_weight_norm(codec)
    for name, layer in plain.decoder.pos_net.named_children():
        if isinstance(layer, PositionAttention):
            setattr(plain.decoder.pos_net, name, ExplicitAttention(layer))
    return plain


def plain_discriminators(judges: Discriminators) -> Discriminators:
    """A copy of `judges` as plain module graphs, with the same losses."""
    plain = with_old_weight_norm(judges)
    for name, judge in judges.items():
        for number, part in enumerate(judge.parts):
            if isinstance(part, PeriodPart):
                plain[name].parts[number] = PeriodColumns(part)
    return plain
