"""Two real processes train every bottleneck alike.

Run as a script this file is one rank: test_ddp.py RANK FOLDER.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from baselines.codebook import EmaCodebook
from baselines.rvq import DROPPED, RVQ
from baselines.vq import VQ
from q2d2.bottleneck import Bottleneck, build_bottleneck
from tests.bottleneck_cases import DIM, latents_of


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
    fixed = [
        build_bottleneck("q2d2", DIM, levels=[7, 7]),
        build_bottleneck("fsq", DIM, levels=[5, 5]),
        *(build_bottleneck("lattice", DIM, lattice=lattice, levels=[5]) for lattice in ("a2", "d4", "e8")),
    ]
    model = DistributedDataParallel(Encoded(early, late, *fixed), broadcast_buffers=False)
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

    # With DDP's own copying of buffers, and two forwards before one backward, as a discriminator step makes them.
    twice = DistributedDataParallel(Encoded(*fixed, build_bottleneck("null", DIM)))
    (twice(latents_of(rank))[0] + twice(latents_of(rank + 2))[0]).backward()
    gradients = {name: value.grad for name, value in twice.module.named_parameters()}

    result = {"gradients": gradients, "trained": trained_state, "depths": depths, "exact": exact.state_dict()}
    torch.save({**result, "offered": offered, "dying": dying.state_dict()}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_train_every_bottleneck_alike(tmp_path: Path) -> None:
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
    assert any("project_in" in name for name in first["gradients"])
    for name, value in first["gradients"].items():
        assert value.abs().sum() > 0, name
        assert torch.equal(value, second["gradients"][name]), name
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
