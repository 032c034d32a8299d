"""What VQ, RVQ and FSQ each promise."""

from __future__ import annotations

import math

import pytest
import torch
import vector_quantize_pytorch as vqpt

from baselines.codebook import EmaCodebook
from baselines.fsq import FSQ
from baselines.rvq import DROPPED, RVQ
from baselines.vq import VQ
from tests.bottleneck_cases import DIM, latents_of, trained


def test_training_step_equals_the_library() -> None:
    ours = VQ(DIM, codebook_size=32, dead_code_fraction=0, commitment_weight=0.5)
    ours.train()(latents_of(0))
    library = vqpt.VectorQuantize(
        DIM, 32, decay=0.99, channel_last=False, kmeans_init=True, commitment_weight=0.5, rotation_trick=False
    )
    library._codebook.load_state_dict(ours.codebook.state_dict())
    quantized, codes, loss = library.train()(latents_of(1))
    output = ours(latents_of(1))
    assert torch.equal(output.codes[:, 0], codes)
    torch.testing.assert_close(output.quantized, quantized)
    torch.testing.assert_close(output.loss, loss)
    for name, value in ours.codebook.state_dict().items():
        torch.testing.assert_close(value, library._codebook.state_dict()[name])


def test_rvq_codes_equal_the_library() -> None:
    ours = trained("rvq")
    library = vqpt.ResidualVQ(dim=DIM, num_quantizers=3, codebook_size=19, kmeans_init=True)
    for stage, codebook in zip(library.layers, ours.get_submodule("codebooks").children(), strict=True):
        stage._codebook.load_state_dict(codebook.state_dict())
    quantized, codes, _ = library.eval()(latents_of(9).transpose(1, 2))
    assert torch.equal(ours.encode(latents_of(9)), codes.transpose(1, 2))
    torch.testing.assert_close(ours(latents_of(9)).quantized, quantized.transpose(1, 2))


@pytest.mark.parametrize("case", ["vq", "rvq"])
def test_gradient_goes_straight_through_once(case: str) -> None:
    bottleneck = trained(case).train()
    latents = latents_of(9).requires_grad_()
    bottleneck(latents).quantized.sum().backward()
    assert latents.grad is not None
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_nearest_is_nearest() -> None:
    codebook = EmaCodebook(3, 50, 0.99, 2, 0.1).train()
    codebook.quantize(torch.randn(1, 500, 3))
    vectors = torch.randn(3, 3000, 3)  # more rows than one chunk holds
    distances = (vectors[..., None, :].double() - codebook.embed[0].double()).square().sum(-1)
    chosen = distances.gather(-1, codebook.nearest(vectors)[..., None])[..., 0]
    assert (chosen - distances.min(-1).values).max() < 1e-5


@pytest.mark.parametrize("batch", [2, 40])  # fewer and more vectors than codes
def test_dead_codes_come_back_and_live_ones_stay(batch: int) -> None:
    torch.manual_seed(0)
    bottleneck = VQ(DIM, codebook_size=64, decay=0.9).train()
    for seed in range(10):
        bottleneck(latents_of(seed, batch=batch, frames=10))
    shift = 20.0
    for seed in range(60):  # the old codes all die, and the new place is filled
        bottleneck(latents_of(seed, batch=batch, frames=10) + shift)
    assert (bottleneck.codebook.embed.mean(-1) > shift / 2).all()
    used = bottleneck.eval().encode(latents_of(0, batch=200, frames=10) + shift).unique()
    assert len(used) > 0.9 * 64
    # At 0 nothing is replaced: what has died stays where it was.
    frozen = VQ(DIM, codebook_size=64, decay=0.9, dead_code_fraction=0).train()
    for step in range(60):
        frozen(latents_of(step, batch=batch, frames=10) + (shift if step else 0.0))
    assert (frozen.codebook.embed.mean(-1) < shift / 2).any()


def test_replaced_code_gets_time() -> None:
    """A fresh code no batch chooses lives until its count decays from uniform usage to the fraction of it."""
    torch.manual_seed(0)
    codebook = EmaCodebook(2, 4, 0.9, 5, 0.25).train()
    near = torch.randn(1, 400, 2)
    codebook.quantize(near)
    codebook.embed[0, 0] = codebook.embed_avg[0, 0] = 1e4  # far from all data, as good as never chosen
    codebook.cluster_size[0, 0] = 100.0  # uniform usage of 400 vectors over 4 codes
    codebook.embed_avg[0, 0] = 1e6
    lifetime = 0
    while codebook.embed[0, 0, 0] > 100:
        codebook.quantize(near)
        lifetime += 1
    assert lifetime == math.ceil(math.log(0.25) / math.log(0.9))  # 14 steps, however many vectors a batch has


def test_quantizer_dropout() -> None:
    torch.manual_seed(0)
    bottleneck = RVQ(DIM, codebook_size=16, num_quantizers=4).train()
    depths = []
    for step in range(80):
        output = bottleneck(latents_of(step))
        used = (output.codes != DROPPED).all(dim=2).all(dim=0)
        depths.append(int(used.sum()))
        assert (output.codes[:, depths[-1] :] == DROPPED).all()
        # Codes of a training step decode as well: dropped quantizers add nothing.
        assert bottleneck.decode(output.codes).isfinite().all()
    assert depths[0] == 4  # the first step initializes all
    assert all(depths.count(depth) >= 8 for depth in (1, 2, 3, 4))
    assert (bottleneck.eval()(latents_of(0)).codes >= 0).all()

    always = RVQ(DIM, codebook_size=16, num_quantizers=4, quantizer_dropout=False).train()
    sometimes = RVQ(DIM, codebook_size=16, num_quantizers=4, quantizer_dropout=0.5).train()
    assert all((always(latents_of(step)).codes >= 0).all() for step in range(20))
    full = sum(bool((sometimes(latents_of(step)).codes >= 0).all()) for step in range(80))
    assert 35 <= full <= 65  # 1/2 + 1/2 * 1/4 of them


def test_partly_dropped_codes_decode_to_the_partial_sum() -> None:
    bottleneck = trained("rvq")
    codes = bottleneck.encode(latents_of(9))
    partial = codes.clone()
    partial[:, 1:] = DROPPED
    first = next(bottleneck.get_submodule("codebooks").children())
    assert torch.equal(bottleneck.decode(partial).transpose(1, 2), first.lookup(codes[:, 0]))


def test_more_quantizers_mean_less_error() -> None:
    bottleneck = trained("rvq")
    codes, latents = bottleneck.encode(latents_of(1)), latents_of(1)
    errors = []
    for depth in (1, 2, 3):
        partial = codes.clone()
        partial[:, depth:] = DROPPED
        errors.append(float((bottleneck.decode(partial) - latents).square().mean()))
    assert errors[0] > errors[1] > errors[2]


def test_loss_is_the_weighted_mean_commitment_of_the_stages_used() -> None:
    bottleneck = RVQ(DIM, codebook_size=16, num_quantizers=3, commitment_weight=0.7, quantizer_dropout=False).train()
    bottleneck(latents_of(0))
    bottleneck.codebooks.eval()  # frozen, so that what is looked up now is what the step used
    latents = latents_of(1).requires_grad_()
    output = bottleneck(latents)
    residual, errors = latents.transpose(1, 2), []
    for stage, codebook in enumerate(bottleneck.codebooks):
        residual = residual - codebook.lookup(output.codes[:, stage])
        errors.append(residual.square().mean())
    torch.testing.assert_close(output.loss, 0.7 * torch.stack(errors).mean())
    (gradient,) = torch.autograd.grad(output.loss, latents)
    assert gradient.abs().sum() > 0

    losses = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        losses.append(float(VQ(DIM, codebook_size=16, commitment_weight=weight).train()(latents_of(0)).loss))
    assert losses[0] == 0
    assert losses[1] > 0
    assert losses[2] == pytest.approx(3 * losses[1])


# ------------------------------------------------------------------------------------------------------------- FSQ


@pytest.mark.parametrize("level", [3, 4, 5, 8, 999, 1000])
def test_fsq_uses_every_level_and_no_other(level: int) -> None:
    bottleneck = FSQ(1, levels=[level]).eval()
    with torch.no_grad():
        bottleneck.get_submodule("project_in").weight.fill_(1.0)
        bottleneck.get_submodule("project_in").bias.zero_()
    codes = bottleneck.encode(torch.linspace(-20, 20, 400_001).view(1, 1, -1))
    assert torch.equal(codes.unique(), torch.arange(level))


def test_fsq_is_the_librarys_and_handles_huge_products() -> None:
    levels = [5, 7, 8]
    bottleneck, library = FSQ(3, levels=levels).eval(), vqpt.FSQ(levels)
    frames = torch.randn(2, 40, 3)
    values, index = library(frames)
    strides = torch.tensor([1, 5, 35])
    assert torch.equal((bottleneck.nearest(frames) * strides).sum(-1), index.long())
    torch.testing.assert_close(bottleneck.lookup(bottleneck.nearest(frames)), values)
    huge = FSQ(DIM, levels=[9] * 12)  # 2.8e11 codes a frame
    assert huge.bits_per_frame == pytest.approx(12 * math.log2(9))
    assert huge.encode(latents_of(0)).max() < 9


# ------------------------------------------------------------------------------------------------------------- DDP
