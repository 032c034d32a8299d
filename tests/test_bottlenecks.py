"""Every bottleneck through one set of properties."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from q2d2.bottleneck import build_bottleneck
from tests.bottleneck_cases import CASES, DIM, LEARNED, build, latents_of, trained


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ------------------------------------------------------------------------------------------------ every bottleneck


def test_decoded_codes_equal_forward(case: str) -> None:
    bottleneck = trained(case)
    for frames in (1, 25):  # a single frame too
        latents = latents_of(9, frames=frames)
        output = bottleneck(latents)
        decoded = bottleneck.decode(bottleneck.encode(latents))
        assert decoded.shape == output.quantized.shape == latents.shape
        if case == "q2d2":
            torch.testing.assert_close(decoded, output.quantized, atol=1e-6, rtol=0)
        else:
            assert torch.equal(decoded, output.quantized)


def test_codes_are_in_range(case: str) -> None:
    bottleneck = trained(case)
    for scale in (1e-3, 1.0, 1e3):
        latents = latents_of(9) * scale
        codes = bottleneck(latents).codes
        assert codes.dtype == torch.int64
        assert codes.shape == (4, len(bottleneck.codebook_sizes), 25)
        for quantizer, size in enumerate(bottleneck.codebook_sizes):
            assert codes[:, quantizer].min() >= 0
            assert codes[:, quantizer].max() < size
        if bottleneck.codebook_sizes:
            assert torch.equal(codes, bottleneck.encode(latents))


def test_bits_per_frame() -> None:
    bits = {case: build(case).bits_per_frame for case in CASES}
    assert bits["unquantized"] == 0
    assert bits["vq"] == pytest.approx(math.log2(37))
    assert bits["rvq"] == pytest.approx(3 * math.log2(19))
    assert bits["rvq-mixed"] == pytest.approx(math.log2(19 * 11 * 7))
    assert bits["fsq"] == pytest.approx(math.log2(800))


@pytest.mark.parametrize("training", [True, False])
def test_gradient_reaches_latents_and_parameters(case: str, training: bool) -> None:
    bottleneck = trained(case).train(training)
    latents = latents_of(9).requires_grad_()
    output = bottleneck(latents)
    (output.quantized.square().sum() + output.loss).backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    for name, parameter in bottleneck.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_saved_state_restores_to_the_bit(case: str, tmp_path: Path) -> None:
    bottleneck = trained(case)
    torch.save(bottleneck.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(1)
    other = build(case)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    latents = latents_of(9)
    for expected, found in zip(bottleneck(latents), other.eval()(latents), strict=True):
        assert torch.equal(expected, found)
    # Going on training gives the same too: the averages and the "initialized" mark are part of the state.
    for module in (bottleneck, other):
        torch.manual_seed(2)
        module.train()(latents_of(10))
    for name, value in bottleneck.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_float32_inside_autocast(case: str) -> None:
    bottleneck = trained(case)
    latents = latents_of(9)
    expected = bottleneck(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = bottleneck(latents)
        half = bottleneck(latents.bfloat16())
        codes = bottleneck.encode(latents)
        decoded = bottleneck.decode(codes)
    assert output.quantized.dtype == torch.float32
    assert torch.equal(output.quantized, expected.quantized)
    assert torch.equal(output.codes, expected.codes)
    assert torch.equal(decoded, bottleneck.decode(bottleneck.encode(latents)))
    assert half.quantized.dtype == torch.bfloat16
    assert half.loss.dtype in (torch.float32, torch.bfloat16)
    bottleneck.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(bottleneck(latents).loss)


def test_eval_mode_has_no_side_effects(case: str) -> None:
    bottleneck = trained(case)
    before = copy.deepcopy(bottleneck.state_dict())
    random_state = torch.get_rng_state()
    latents = latents_of(9)
    bottleneck(latents)
    bottleneck.train()
    bottleneck.decode(bottleneck.encode(latents))  # encode and decode never learn, in training mode neither
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in bottleneck.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_batch_equals_single(case: str) -> None:
    bottleneck = trained(case)
    latents = latents_of(9)
    together = bottleneck(latents)
    for index in range(len(latents)):
        alone = bottleneck(latents[index : index + 1])
        assert torch.equal(alone.codes, together.codes[index : index + 1])
        torch.testing.assert_close(alone.quantized, together.quantized[index : index + 1], atol=1e-6, rtol=1e-6)


def test_spec_is_json_and_rebuilds(case: str) -> None:
    bottleneck = build(case)
    spec = json.loads(json.dumps(bottleneck.spec))
    assert build_bottleneck(spec.pop("name"), DIM, **spec).codebook_sizes == bottleneck.codebook_sizes


@pytest.mark.parametrize("case", [name for name in CASES if name not in ("unquantized", "q2d2")])
def test_wrong_shapes_are_named(case: str) -> None:
    bottleneck = trained(case)
    with pytest.raises(ValueError, match=r"latents \(4, 13, 25\): expected \(batch, 12, frames\)"):
        bottleneck(torch.zeros(4, 13, 25))
    with pytest.raises(ValueError, match=r"codes .* expected \(batch, "):
        bottleneck.decode(torch.zeros(4, len(bottleneck.codebook_sizes) + 1, 25, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vq", {"codebook_size": 1}, "codebook_size 1"),
        ("vq", {"codebook_size": 10.5}, "codebook_size 10.5"),
        ("vq", {"codebook_dim": 0}, "codebook_dim 0"),
        ("vq", {"decay": 1.0}, "decay 1.0"),
        ("vq", {"kmeans_iters": 0}, "kmeans_iters 0"),
        ("vq", {"dead_code_fraction": 1.0}, "dead_code_fraction 1.0"),
        ("vq", {"commitment_weight": -1}, "commitment_weight -1"),
        ("vq", {"levels": [5]}, "levels"),
        ("rvq", {"num_quantizers": 0}, "num_quantizers 0"),
        ("rvq", {"codebook_size": [8, 8], "num_quantizers": 3}, "expected 3 sizes"),
        ("rvq", {"quantizer_dropout": 1.5}, "quantizer_dropout 1.5"),
        ("fsq", {"levels": []}, "levels"),
        ("fsq", {"levels": [8, 2]}, "levels"),
        ("fsq", {"levels": [8, 1001]}, "levels"),
    ],
)
def test_bad_options_are_value_errors(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_bottleneck(name, DIM, **options)


# ------------------------------------------------------------------------------------------------------ VQ and RVQ


@pytest.mark.parametrize("case", LEARNED)
def test_untrained_codebook_is_an_error(case: str) -> None:
    bottleneck = build(case).eval()
    for call in (bottleneck, bottleneck.encode):
        with pytest.raises(RuntimeError, match="not initialized"):
            call(latents_of(0))
    assert not any(value for name, value in bottleneck.state_dict().items() if name.endswith("initted"))
    # One training step makes it usable (all quantizers, whatever dropout draws), an untrained state unusable again.
    bottleneck.train()(latents_of(0))
    bottleneck.eval()(latents_of(0))
    bottleneck.load_state_dict(build(case).state_dict())
    with pytest.raises(RuntimeError, match="not initialized"):
        bottleneck(latents_of(0))


@pytest.mark.parametrize("case", LEARNED)
def test_training_is_reproducible_from_the_seed(case: str) -> None:
    first, second = trained(case).state_dict(), trained(case).state_dict()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
