"""What a checkpoint is, in words: a few facts, and the README that goes with it to a hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from q2d2.bottleneck import BOTTLENECKS
from q2d2.checkpoints import full_spec, load_codec, read_description
from q2d2.codec import Codec


def codec_facts(codec: Codec) -> dict[str, str]:
    """Label -> one line, for people: sizes, bottleneck, bit rate and number of parameters of `codec`."""
    sizes, bottleneck = codec.config, codec.bottleneck
    spec = full_spec(bottleneck)
    name = BOTTLENECKS.current(str(spec["name"]))
    options = ", ".join(f"{key} {_plain(value)}" for key, value in spec.items() if key != "name" and value is not None)
    rate = "continuous: no codes"
    if bottleneck.codebook_sizes:
        rate = (
            f"{bottleneck.bits_per_frame:.2f} bits/frame x {codec.frame_rate:.2f} frames/s = "
            f"{codec.bitrate / 1000:.3f} kbit/s, {codec.tokens_per_second:.1f} tokens/s"
        )
    parameters = sum(parameter.numel() for parameter in codec.parameters())
    return {
        "audio": f"{sizes.sample_rate:,} Hz, {sizes.hop_length} samples a frame (ratios {_plain(sizes.ratios)})",
        "encoder": f"{sizes.num_filters} filters, {sizes.lstm_layers} LSTM layers, {sizes.dimension} latent channels",
        "decoder": f"{sizes.decoder_dim} / {sizes.decoder_intermediate} channels, {sizes.decoder_layers} blocks, "
        f"{sizes.num_embeddings} conditions",
        "bottleneck": f"{name}: {options}" if options else name,
        "rate": rate,
        "parameters": f"{parameters / 1e6:.2f} M",
    }


def model_card(folder: Path, repo: str) -> str:
    """The README.md of the checkpoint in `folder` for the repository `repo`: what codec.json knows, how to use it.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    described = read_description(folder)
    facts = codec_facts(load_codec(folder)) | _origin(described)
    facts["SHA-256 of the weights"] = f"`{described['weights_sha256']}`"
    rows = "\n".join(f"| {label} | {text} |" for label, text in facts.items())
    return f"""---
library_name: codec-bottlenecks
tags:
- audio
- speech
- neural-codec
---

# {repo.rpartition("/")[2]}

A neural speech codec, made with codec-bottlenecks.

| | |
|---|---|
{rows}

```python
from q2d2.codec import Codec

codec = Codec.from_pretrained("{repo}")
codes = codec.encode(audio)  # audio: (batch, samples) in [-1, 1] at {described["backbone"]["sample_rate"]} Hz
decoded = codec.decode(codes, length=audio.shape[-1])
```
"""


def _origin(described: Mapping[str, Any]) -> dict[str, str]:
    """Where the weights come from, as far as the checkpoint says."""
    metadata = described["metadata"]
    origin: dict[str, str] = {}
    if imported := metadata.get("imported"):
        origin["imported from"] = f"{imported['file']} ({imported['family']}), SHA-256 `{imported['sha256']}`"
    if corpora := metadata.get("corpora"):
        origin["trained on"] = "; ".join(map(str, corpora))
    if steps := metadata.get("settings", {}).get("train", {}).get("steps"):
        origin["steps"] = f"{steps:,}"
    if version := metadata.get("version", described.get("version")):
        origin["code version"] = str(version)
    return origin


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
