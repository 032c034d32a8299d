"""The backbone for inference on a CPU: weights in oneDNN's own layout, memory in the order (batch, time, channels).

In that order a pointwise layer is one matrix product, and its bias, GELU or residual is added while the result is still
in registers. Inside this module `rows` are (batch, time, channels), contiguous. The operators are those that
torch.compile itself calls on CPUs. They are not part of torch's public interface: `can_pack` looks for them first.
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from q2d2.codec.chunks import reach
from q2d2.codec.config import CodecConfig
from q2d2.codec.decoder import AdaptiveLayerNorm, ConvNeXtBlock, Decoder, PositionAttention, PositionResBlock
from q2d2.codec.encoder import Encoder, PaddedConv1d, ResidualBlock, reflect_pad
from q2d2.codec.head import ISTFTHead
from q2d2.spans import spans

OPERATORS = ("_reorder_linear_weight", "_linear_pointwise", "_reorder_convolution_weight", "_convolution_pointwise")
# Values of the encoder's widest signal that are computed at a time. glibc maps larger blocks (32 MiB) anew for every
# tensor, and touching fresh pages took longer than the convolutions.
STRETCH = 2**22
# Layers at the encoder's start that are float32 always, the first convolution and residual block: in bfloat16 they
# made three times as many codes differ.
FLOAT32_LAYERS = 2
# Values of one step of ELU, so that its intermediate results stay in the cache.
TILE = 2**18


def can_pack(device: torch.device, dtype: torch.dtype = torch.float32) -> bool:
    """Whether these modules can run on `device` in `dtype` with this build of torch, on this processor."""
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return (
        device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    )


def as_rows(signal: Tensor) -> Tensor:
    """(batch, channels, time) -> rows; no copy where the memory already has their order."""
    return signal.transpose(1, 2).contiguous()


def elu_into(rows: Tensor, out: Tensor) -> None:
    """ELU of (batch, time, channels) into `out`, which may be the same tensor.

    As max(x, exp(min(x, 0)) - 1), off by at most one rounding of 1: F.elu calls expm1, which torch computes one value
    at a time.
    """
    size = max(1, TILE // (rows.shape[0] * rows.shape[2]))
    for part, target in zip(rows.split(size, dim=1), out.split(size, dim=1), strict=True):
        wide = part.float()
        torch.maximum(wide, wide.clamp(max=0).exp_().sub_(1), out=target)


class PackedLinear(nn.Module):
    """Linear layer, or convolution with one tap, (..., in) -> (..., out); then GELU, or the sum with `added`."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, gelu: bool = False) -> None:
        super().__init__()
        self.dtype = dtype
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.flatten(1).to(dtype).contiguous())
        self.bias = bias.detach().to(dtype, copy=True)
        self.activation: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, rows: Tensor, added: Tensor | None = None) -> Tensor:
        rows = rows.to(self.dtype)
        if added is not None and added.dtype == self.dtype:
            fused: Tensor = torch.ops.mkldnn._linear_pointwise(rows, added, self.weight, self.bias, "add")
            return fused
        output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, *self.activation)
        return output if added is None else added + output


class PackedConv(nn.Module):
    """Convolution of rows, `padding` zeros on each side; its output has `dtype`, that of its weights."""

    def __init__(self, layer: nn.Conv1d, dtype: torch.dtype, padding: int = 0) -> None:
        super().__init__()
        self.dtype = dtype
        self.geometry = ([0, padding], [1, layer.stride[0]], [1, 1], layer.groups)
        weight = layer.weight.unsqueeze(2).to(dtype).contiguous()
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry)
        self.bias = cast(Tensor, layer.bias).detach().to(dtype, copy=True)

    def forward(self, rows: Tensor) -> Tensor:
        image = rows.to(self.dtype).transpose(1, 2).unsqueeze(2)
        output = torch.ops.mkldnn._convolution_pointwise(image, self.weight, self.bias, *self.geometry, "none", [], "")
        return as_rows(output.squeeze(2))


class PackedPaddedConv(PaddedConv1d):
    """PaddedConv1d, after ELU if asked for; its output has the dtype `output`."""

    def __init__(self, layer: PaddedConv1d, dtype: torch.dtype, elu: bool, output: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.kernel_size, self.stride = layer.kernel_size, layer.stride
        self.elu, self.output = elu, output
        self.packed = PackedConv(layer.conv, dtype)

    def forward(self, signal: Tensor) -> Tensor:
        return self.rows(signal.transpose(1, 2)).transpose(1, 2)

    def rows(self, rows: Tensor) -> Tensor:
        """The same on (batch, time, channels)."""
        batch, length, channels = rows.shape
        total = self.kernel_size - self.stride
        left = total - total // 2
        right = total // 2 + math.ceil(length / self.stride) * self.stride - length
        padded = torch.empty(batch, left + length + right, channels, dtype=self.packed.dtype, device=rows.device)
        inner = padded[:, left : left + length]
        if self.elu:
            elu_into(rows, inner)
        else:
            inner.copy_(rows)
        if length <= max(left, right):  # too short to be reflected as it is
            padded = as_rows(reflect_pad(inner.transpose(1, 2), left, right))
        else:
            padded[:, :left] = inner[:, 1 : left + 1].flip(1)
            padded[:, left + length :] = inner[:, length - 1 - right : length - 1].flip(1)
        return cast(Tensor, self.packed(padded)).to(self.output)


class PackedResidualBlock(nn.Module):
    """ResidualBlock."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        super().__init__()
        first, second = (layer for layer in block.block if isinstance(layer, PaddedConv1d))
        self.first = PackedPaddedConv(first, dtype, elu=True, output=dtype)
        self.second = PackedLinear(second.conv.weight, second.conv.bias, dtype)
        self.shortcut = PackedLinear(block.shortcut.conv.weight, block.shortcut.conv.bias, dtype)

    def forward(self, signal: Tensor) -> Tensor:
        rows = as_rows(signal)
        hidden = self.first.rows(rows)
        elu_into(hidden, hidden)
        return cast(Tensor, self.second(hidden, added=self.shortcut(rows))).transpose(1, 2)


class PackedEncoder(nn.Module):
    """Encoder; `model` has its layers in the same places, but each ELU is part of the convolution after it."""

    def __init__(self, encoder: Encoder, config: CodecConfig, dtype: torch.dtype) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = encoder.model[-1]
        for index, layer in enumerate(encoder.model):
            kind = torch.float32 if index < FLOAT32_LAYERS else dtype
            if isinstance(layer, nn.ELU):
                layers.append(nn.Identity())
            elif isinstance(layer, PaddedConv1d):
                elu = index > 0 and isinstance(encoder.model[index - 1], nn.ELU)
                layers.append(PackedPaddedConv(layer, kind, elu, output=torch.float32 if layer is last else kind))
            elif isinstance(layer, ResidualBlock):
                layers.append(PackedResidualBlock(layer, kind))
            else:
                layers.append(copy.deepcopy(layer).to(kind))
        self.model = nn.Sequential(*layers)
        self.hop_length = config.hop_length
        self.context = math.ceil(reach(self.model[:-3]) / self.hop_length) * self.hop_length
        self.stretch = max(1, STRETCH // (config.num_filters * self.hop_length)) * self.hop_length

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (batch, 1, samples) -> latents (batch, dimension, frames), float32."""
        features = torch.cat([self._features(clip) for clip in audio.split(1)])
        latents: Tensor = self.model[-3:](features)
        return latents

    def _features(self, audio: Tensor) -> Tensor:
        """What the LSTM gets of (1, 1, samples), computed in stretches that see their surroundings."""
        parts = []
        for span in spans([audio], self.stretch, max(1, self.context)):
            first = span.before // self.hop_length
            features = self.model[:-3](span.signal)
            parts.append(features[..., first : first + math.ceil(span.size / self.hop_length)])
        return torch.cat(parts, dim=-1)


class PackedLayerNorm(nn.Module):
    """AdaptiveLayerNorm of rows at condition 0, that of evaluation."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: AdaptiveLayerNorm) -> None:
        super().__init__()
        self.register_buffer("scale", norm.scale.weight[0].detach().clone())
        self.register_buffer("shift", norm.shift.weight[0].detach().clone())

    def forward(self, rows: Tensor) -> Tensor:
        return F.layer_norm(rows, rows.shape[-1:], self.scale, self.shift, eps=1e-6)


class PackedGroupNorm(nn.Module):
    """GroupNorm of rows."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = copy.deepcopy(norm)

    def forward(self, rows: Tensor) -> Tensor:
        # In the order of channels: torch's kernel for rows takes the variance as E[x^2] - E[x]^2, which loses four
        # digits where the mean is 30 standard deviations.
        return as_rows(self.norm(rows.transpose(1, 2).contiguous()))


class PackedPositionResBlock(nn.Module):
    """PositionResBlock on float32 rows."""

    def __init__(self, block: PositionResBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm1, self.norm2 = PackedGroupNorm(block.norm1), PackedGroupNorm(block.norm2)
        self.conv1, self.conv2 = (PackedConv(layer, dtype, padding=1) for layer in (block.conv1, block.conv2))

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(rows), inplace=True)).float()
        return rows + cast(Tensor, self.conv2(F.silu(self.norm2(hidden), inplace=True)))


class PackedPositionAttention(nn.Module):
    """PositionAttention on float32 rows."""

    def __init__(self, block: PositionAttention, dtype: torch.dtype) -> None:
        super().__init__()
        parts = (block.q, block.k, block.v)
        self.norm = PackedGroupNorm(block.norm)
        self.qkv = PackedLinear(
            torch.cat([part.weight for part in parts]), torch.cat([cast(Tensor, part.bias) for part in parts]), dtype
        )
        self.proj_out = PackedLinear(block.proj_out.weight, cast(Tensor, block.proj_out.bias), dtype)

    def forward(self, rows: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(rows)).unsqueeze(1).chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        return cast(Tensor, self.proj_out(attended, added=rows))


class PackedConvNeXtBlock(nn.Module):
    """ConvNeXtBlock on float32 rows; the layer scale is part of the last layer's weights."""

    def __init__(self, block: ConvNeXtBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.dwconv = PackedConv(block.dwconv, torch.float32, padding=3)
        self.norm = PackedLayerNorm(block.norm)
        self.pwconv1 = PackedLinear(block.pwconv1.weight, block.pwconv1.bias, dtype, gelu=True)
        scale = block.gamma
        self.pwconv2 = PackedLinear(scale[:, None] * block.pwconv2.weight, scale * block.pwconv2.bias, dtype)

    def forward(self, rows: Tensor) -> Tensor:
        return cast(Tensor, self.pwconv2(self.pwconv1(self.norm(self.dwconv(rows))), added=rows))


class PackedDecoder(nn.Module):
    """Decoder at condition 0, that of evaluation."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.embed = PackedConv(decoder.embed, dtype, padding=3)
        layers: list[nn.Module] = []
        for block in decoder.pos_net:
            if isinstance(block, PositionResBlock):
                layers.append(PackedPositionResBlock(block, dtype))
            elif isinstance(block, PositionAttention):
                layers.append(PackedPositionAttention(block, dtype))
            else:
                layers.append(PackedGroupNorm(block))
        layers.append(PackedLayerNorm(decoder.norm))
        layers += [PackedConvNeXtBlock(cast(ConvNeXtBlock, block), dtype) for block in decoder.convnext]
        self.layers = nn.Sequential(*layers, copy.deepcopy(decoder.final_layer_norm))

    def forward(self, latents: Tensor, condition: Tensor) -> Tensor:
        """Quantized latents (batch, dimension, frames) -> features (batch, frames, decoder_dim), float32.

        `condition` is there for the sake of Decoder's interface and must be 0.
        """
        features: Tensor = self.layers(self.embed(as_rows(latents)).float())
        return features


def packed_head(head: ISTFTHead) -> ISTFTHead:
    """A copy of the head with its linear layer packed, in float32 always, as the spectrum is."""
    packed = copy.deepcopy(head)
    packed.out = cast(nn.Linear, PackedLinear(head.out.weight, head.out.bias, torch.float32))
    return packed
