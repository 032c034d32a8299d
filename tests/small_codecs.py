"""Small random models of the codecs of transformers, saved as published ones are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FEW, ALL = 2, 4  # quantizers of each small model
CODES = 64


@dataclass(frozen=True)
class Small:
    """A small model: its rates by hand, its numbers of quantizers, and how transformers runs the whole of it."""

    name: str
    architecture: str
    config: Callable[[Any], Any]  # of the module transformers
    sample_rate: int
    frame_rate: float
    counts: str
    run: Callable[[Any, Tensor, int], Any]  # (model, audio (batch, 1, samples), quantizers) -> its output
    spread: float = 1.0  # of its codebooks, as wide as its latents are


def _xcodec(hf: Any) -> Any:
    semantic = hf.HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    acoustic = {
        "model_type": "dac", "encoder_hidden_size": 2, "decoder_hidden_size": 32, "hidden_size": 16,
        "downsampling_ratios": [8, 5, 4, 2],
    }  # fmt: skip
    return hf.XcodecConfig(
        target_bandwidths=[0.3, 0.6, 1.2], codebook_size=CODES, acoustic_model_config=acoustic,
        semantic_model_config=semantic.to_dict(),
    )  # fmt: skip


SMALL = {
    small.name: small
    for small in (
        Small(
            "encodec", "EncodecModel",
            lambda hf: hf.EncodecConfig(
                hidden_size=8, num_filters=2, num_lstm_layers=1, codebook_size=CODES, target_bandwidths=[0.45, 0.9, 1.8]
            ),
            24_000, 24_000 / (8 * 5 * 4 * 2), "1, 2, 4",
            lambda model, audio, count: model(audio, bandwidth=0.45 * count), 1e-3,
        ),
        Small(
            "dac", "DacModel",
            lambda hf: hf.DacConfig(
                encoder_hidden_size=2, decoder_hidden_size=32, downsampling_ratios=[2, 4, 5, 8], n_codebooks=ALL,
                codebook_size=CODES, codebook_dim=4, sampling_rate=16_000, hop_length=512,
            ),
            16_000, 16_000 / (2 * 4 * 5 * 8), "1 to 4",
            lambda model, audio, count: model(audio, n_quantizers=count),
        ),
        Small(
            "mimi", "MimiModel",
            lambda hf: hf.MimiConfig(
                hidden_size=16, num_filters=2, codebook_size=CODES, codebook_dim=8, num_quantizers=ALL,
                vector_quantization_hidden_dimension=8, num_hidden_layers=1, intermediate_size=16,
                num_attention_heads=2, num_key_value_heads=2, upsample_groups=16, frame_rate=12.5,
            ),
            24_000, 24_000 / (8 * 6 * 5 * 4) / 2, "1 to 4",
            lambda model, audio, count: model(audio, num_quantizers=count),
        ),
        Small(
            "xcodec", "XcodecModel", _xcodec, 16_000, 16_000 / (8 * 5 * 4 * 2), "1, 2, 4",
            lambda model, audio, count: model(audio, bandwidth=0.3 * count),
        ),
    )
}  # fmt: skip


def save_small(name: str, folder: Path) -> Any:
    """The small model as transformers made it, saved in `folder`; random, without biases, so that codes vary."""
    import transformers as hf

    hf.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    small = SMALL[name]
    model = getattr(hf, small.architecture)(small.config(hf)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.zero_()
        for key, buffer in model.named_buffers():
            if key.endswith(("embed", "embed_sum")):  # codebooks start at zero
                buffer.copy_(small.spread * torch.randn_like(buffer))
    model.save_pretrained(folder)
    return model


def noise(samples: int, batch: int = 2) -> Tensor:
    """White noise in [-1, 1), (batch, samples); the same each time."""
    return 2 * torch.rand(batch, samples, generator=torch.Generator().manual_seed(samples)) - 1
