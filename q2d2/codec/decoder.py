"""Vocos decoder with WavTokenizer's position net: latents -> features per frame (arXiv 2306.00814; 2408.16532)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from q2d2.codec.config import CodecConfig

PUBLISHED_DIM, PUBLISHED_INIT_STD = 768, 0.02


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class PositionResBlock(nn.Module):
    """Two normalized 3-tap convolutions beside a skip connection, on (batch, channels, frames)."""

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1)
        self.norm2 = group_norm(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(features)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        return features + hidden


class PositionAttention(nn.Module):
    """Single-head self-attention over all frames beside a skip connection, on (batch, channels, frames)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q = nn.Conv1d(channels, channels, 1)
        self.k = nn.Conv1d(channels, channels, 1)
        self.v = nn.Conv1d(channels, channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        normed = self.norm(features)
        # Contiguous: only then torch attends without a matrix of all pairs of frames, in memory linear in the frames.
        query, key, value = (
            layer(normed).transpose(1, 2).contiguous().unsqueeze(1) for layer in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(query, key, value).squeeze(1).transpose(1, 2)
        return features + self.proj_out(attended)


class AdaptiveLayerNorm(nn.Module):
    """Layer normalization of (batch, frames, channels) whose scale and shift are looked up by a condition."""

    def __init__(self, num_embeddings: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Embedding(num_embeddings, channels)
        self.shift = nn.Embedding(num_embeddings, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        normed = F.layer_norm(features, features.shape[-1:], eps=1e-6)
        return normed * self.scale(condition) + self.shift(condition)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, adaptive norm and two pointwise layers beside a skip connection."""

    def __init__(self, channels: int, intermediate: int, layer_scale: float, num_embeddings: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = AdaptiveLayerNorm(num_embeddings, channels)
        self.pwconv1 = nn.Linear(channels, intermediate)
        self.pwconv2 = nn.Linear(intermediate, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        hidden = self.norm(self.dwconv(features).transpose(1, 2), condition)
        hidden = self.pwconv2(F.gelu(self.pwconv1(hidden)))
        return features + (self.gamma * hidden).transpose(1, 2)


class Decoder(nn.Module):
    """Quantized latents (batch, dimension, frames) -> features (batch, frames, decoder_dim)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.embed = nn.Conv1d(config.dimension, dim, 7, padding=3)
        self.pos_net = nn.Sequential(
            PositionResBlock(dim),
            PositionResBlock(dim),
            PositionAttention(dim),
            PositionResBlock(dim),
            PositionResBlock(dim),
            group_norm(dim),
        )
        self.norm = AdaptiveLayerNorm(config.num_embeddings, dim)
        self.convnext = nn.ModuleList(
            ConvNeXtBlock(dim, config.decoder_intermediate, 1 / config.decoder_layers, config.num_embeddings)
            for _ in range(config.decoder_layers)
        )
        self.final_layer_norm = nn.LayerNorm(dim, eps=1e-6)
        # Vocos initializes with std 0.02 at 768 channels; smaller sizes keep the same gain per layer.
        std = PUBLISHED_INIT_STD * (PUBLISHED_DIM / dim) ** 0.5
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, latents: Tensor, condition: Tensor) -> Tensor:
        features = self.pos_net(self.embed(latents))
        features = self.norm(features.transpose(1, 2), condition).transpose(1, 2)
        for block in self.convnext:
            features = block(features, condition)
        return self.final_layer_norm(features.transpose(1, 2))
