"""Every bottleneck through one set of properties, then what VQ, RVQ and FSQ each promise.

Run as a script this file is one rank of the DDP test: test_baselines.py RANK FOLDER.
"""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import vector_quantize_pytorch as vqpt
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from baselines.fsq import FSQ
from baselines.rvq import DROPPED, RVQ
from baselines.vq import VQ, EmaCodebook
from q2d2.bottleneck import Bottleneck, build_bottleneck

DIM = 12
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "null": ("null", {}),
    "q2d2": ("q2d2", {"tiling": "rhombic", "levels": [7, 7, 7, 7]}),
    "fsq": ("fsq", {"levels": [8, 5, 5, 4]}),
    "vq": ("vq", {"codebook_size": 37}),
    "vq-projected": ("vq", {"codebook_size": 37, "codebook_dim": 5}),
    "rvq": ("rvq", {"codebook_size": 19, "num_quantizers": 3}),
    "rvq-mixed": ("rvq", {"codebook_size": [19, 11, 7], "num_quantizers": 3, "codebook_dim": 5}),
}
LEARNED = {name: case for name, case in CASES.items() if case[0] in ("vq", "rvq")}


def latents_of(seed: int, batch: int = 4, frames: int = 25) -> Tensor:
    return torch.randn(batch, DIM, frames, generator=torch.Generator().manual_seed(seed))


def build(case: str) -> Bottleneck:
    torch.manual_seed(0)
    name, options = CASES[case]
    return build_bottleneck(name, DIM, **options)


def trained(case: str) -> Bottleneck:
    bottleneck = build(case).train()
    for seed in range(3):
        bottleneck(latents_of(seed))
    return bottleneck.eval()


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
    assert bits["null"] == 0
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


@pytest.mark.parametrize("case", [name for name in CASES if name not in ("null", "q2d2")])
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


class Encoded(nn.Module):
    """A layer before the bottlenecks, so that DDP has gradients to add up."""

    def __init__(self, *bottlenecks: Bottleneck) -> None:
        super().__init__()
        self.layer = nn.Conv1d(DIM, DIM, 1)
        self.bottlenecks = nn.ModuleList(bottlenecks)

    def forward(self, latents: Tensor) -> tuple[Tensor, list[int]]:
        outputs = [bottleneck(self.layer(latents)) for bottleneck in self.bottlenecks]
        depths = [int((output.codes != DROPPED).all(dim=2).all(dim=0).sum()) for output in outputs]
        return sum(o.quantized.square().mean() + o.loss for o in outputs), depths


def run_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(5)
    # More codes than one rank has vectors; every step some codes are dead (the data moves).
    early = VQ(DIM, codebook_size=60, codebook_dim=6, decay=0.5, dead_code_fraction=0.5)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    late = RVQ(DIM, codebook_size=20, num_quantizers=4, decay=0.5, dead_code_fraction=0.5)
    # Without DDP's copying of buffers from rank 0 nothing hides a codebook that learned from one rank only.
    model = DistributedDataParallel(Encoded(early, late), broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(100 + rank)  # ranks with random states of their own
    depths = []
    for step in range(12):
        loss, used = model(latents_of(1000 * rank + step, batch=2, frames=20 if step else 24) + step / 2)
        depths.append(used)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained_state = {name: value.clone() for name, value in model.module.state_dict().items()}

    # Two ranks with half the batch each learn what one process learns from the whole batch.
    exact = VQ(DIM, codebook_size=8, dead_code_fraction=0)
    exact.load_state_dict(torch.load(folder / "start.pt", weights_only=True))
    exact.train()(latents_of(50)[2 * rank : 2 * rank + 2])

    # 20 of 40 codes die; rank 0 has vectors for its half of them, rank 1 for 6.
    dying = EmaCodebook(3, 40, 0.5, 2, 0.5).train()
    dying.quantize(torch.randn(1, 60, 3))
    dying.cluster_size[0] = torch.where(torch.arange(40) < 20, 0.0, 10.0)
    offered = torch.randn(30 if rank == 0 else 6, 3)
    dying.expire_codes_(offered[None])

    result = {"trained": trained_state, "depths": depths, "exact": exact.state_dict()}
    torch.save({**result, "offered": offered, "dying": dying.state_dict()}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_learn_one_codebook(tmp_path: Path) -> None:
    torch.manual_seed(0)
    alone = VQ(DIM, codebook_size=8, dead_code_fraction=0).train()
    alone(latents_of(49))
    torch.save(alone.state_dict(), tmp_path / "start.pt")
    alone(latents_of(50))

    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, __file__]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment) for rank in range(2)]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))

    assert first["depths"] == second["depths"]
    assert len({depths[1] for depths in first["depths"]}) > 1
    for name, value in first["trained"].items():
        assert torch.equal(value, second["trained"][name]), name
    # Codes left at the first batch's place would be near 0; the data has moved on by 5.
    embed = first["trained"]["bottlenecks.0.codebook.embed"][0]
    assert len(embed.unique(dim=0)) == 60
    assert embed.isfinite().all()
    for name, value in alone.codebook.state_dict().items():
        torch.testing.assert_close(first["exact"][f"codebook.{name}"], value, atol=1e-6, rtol=1e-5)
        assert torch.equal(first["exact"][f"codebook.{name}"], second["exact"][f"codebook.{name}"]), name

    for name, value in first["dying"].items():
        assert torch.equal(value, second["dying"][name]), name
    taken = torch.cat([(rank["offered"][:, None] == first["dying"]["embed"][0]).all(-1) for rank in (first, second)])
    assert [int(taken[:30].sum()), int(taken[30:].sum())] == [10, 6]
    assert taken.sum(dim=0).max() == taken.sum(dim=1).max() == 1  # no vector and no code twice
    usage = first["dying"]["cluster_size"][0]
    assert usage[taken.any(dim=0)].tolist() == pytest.approx([36 / 40] * 16)  # uniform usage of both ranks' 36 vectors
    assert int((usage == 0).sum()) == 4  # left for the next batch


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
