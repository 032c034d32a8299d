"""Protocols as data: what they hold, that every setting counts, and what is refused."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio.functional

from evalkit.scoring.protocol import PROTOCOLS, ProtocolError, Resampler, get_protocol

OTHER: dict[str, Any] = {
    "name": "other", "signals": "pcm16", "checked": False, "aligned": True, "crop": "longer", "hop_seconds": 0.02,
    "max_delay_seconds": 0.1, "max_mismatch": 0.2, "resampler": Resampler(16, 0.9, "sinc_interp_kaiser"),
    "version": 2,
}  # fmt: skip


def test_every_setting_counts() -> None:
    strict = get_protocol("strict")
    assert set(OTHER) == {field.name for field in fields(strict)}
    digests = {strict.digest, *(replace(strict, **{name: value}).digest for name, value in OTHER.items())}
    assert len(digests) == len(OTHER) + 1
    assert get_protocol("strict").digest == strict.digest


def test_labels_tell_aligned_scores_apart() -> None:
    labels = [get_protocol(name, align).label for name in PROTOCOLS for align in (False, True)]
    assert labels == ["strict", "strict+align", "paper", "paper+align"]


def test_described_in_plain_values_with_rates_and_versions() -> None:
    described = get_protocol("paper").describe({"pesq": (16_000, "pesq 1"), "stoi": (None, "pystoi 2")})
    assert json.loads(json.dumps(described)) == described
    assert described["rates"] == {"pesq": 16_000, "stoi": "the estimate's own"}
    assert described["versions"] == {"pesq": "pesq 1", "stoi": "pystoi 2"}
    assert described["resampler"] == {"lowpass_filter_width": 6, "rolloff": 0.99, "method": "sinc_interp_hann"}
    assert described["signals"] == "pcm16"


def test_unknown_name() -> None:
    with pytest.raises(ProtocolError, match="unknown protocol 'published'; known: strict, paper"):
        get_protocol("published")


@pytest.mark.parametrize(("rate", "target"), [(24_000, 16_000), (16_000, 24_000), (44_100, 16_000), (8000, 8000)])
def test_resampling_is_that_of_published_scripts(rate: int, target: int) -> None:
    signal = np.random.default_rng(0).standard_normal(rate // 10 + 7).astype(np.float32)
    ours = get_protocol("paper").resampler(signal, rate, target)
    assert ours.dtype == np.float32
    assert ours.size == -(-signal.size * target // rate)
    np.testing.assert_array_equal(ours, torchaudio.functional.resample(torch.from_numpy(signal), rate, target).numpy())
