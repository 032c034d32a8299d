"""Checkpoints of ours (codec.json and weights) and published ones (.ckpt)."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import load

from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import CONFIG, WEIGHTS, load_codec, save_codec
from q2d2.codec import codec_config
from q2d2.codec.codec import Codec
from q2d2.published_files import import_checkpoint
from tests.command import TINY
from tests.fuzz.damage import damaged
from tests.fuzz.documents import mutated_json
from tests.fuzz.driver import Silent
from tests.published_models import random_state, small_description, write_ckpt, write_yaml


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two modules hold the same state."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


class Checkpoints:
    """A small codec with an FSQ."""

    name = "checkpoints"
    count = 500

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        config = codec_config("tiny", **TINY["backbone"]["changes"])
        self.folder = folder
        self.codec = Codec(config, build_bottleneck("fsq", config.dimension, levels=[5, 4])).eval()
        self.audio = 0.1 * torch.randn(1, 3200)
        save_codec(self.codec, folder / "whole")
        self.config = json.loads((folder / "whole" / CONFIG).read_bytes())
        self.weights = (folder / "whole" / WEIGHTS).read_bytes()

    def run(self, rng: random.Random, number: int) -> None:
        case = self.folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        shutil.copytree(self.folder / "whole", case)
        kind = number % 3
        if kind == 0:
            (case / WEIGHTS).write_bytes(damaged(rng, self.weights))
        elif kind == 1:
            (case / CONFIG).write_bytes(mutated_json(rng, self.config))
        else:
            self._spoil(rng, case)
        read = load_codec(case)
        if kind != 1 and not same(read, self.codec):
            raise Silent("other weights were read")
        with torch.no_grad():
            codes = read.encode(self.audio)
            read.decode(codes)
        if kind == 2:
            raise Silent("values that are no weights were read")

    def _spoil(self, rng: random.Random, case: Path) -> None:
        """A whole checkpoint, its digest included, whose values are no weights."""
        codec = self.codec
        state = load(self.weights)
        name = rng.choice([name for name, tensor in state.items() if tensor.is_floating_point() and tensor.numel()])
        value = rng.choice((torch.nan, torch.inf, -torch.inf))
        state[name].view(-1)[rng.randrange(state[name].numel())] = value
        codec.load_state_dict(state)
        try:
            save_codec(codec, case)
        finally:
            codec.load_state_dict(load(self.weights))


class Published:
    """A small Q2D2 as its authors' code saves it."""

    name = "ckpt"
    count = 200

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.yaml = write_yaml(folder / "model.yaml", small_description("q2d2"))
        self.state = random_state(self.yaml, "q2d2")
        self.file = write_ckpt(folder / "whole.ckpt", self.state).read_bytes()
        import_checkpoint("q2d2", folder / "whole.ckpt", self.yaml, folder / "imported")
        self.imported = load_codec(folder / "imported")

    def run(self, rng: random.Random, number: int) -> None:
        case, out = self.folder / "case.ckpt", self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        if number % 4:
            case.write_bytes(damaged(rng, self.file))
        else:
            self._spoil(rng, case)
        try:
            import_checkpoint("q2d2", case, self.yaml, out)
        except Exception:
            if out.exists() and any(out.iterdir()):
                raise Silent("something was left where it was refused") from None
            raise
        if not same(load_codec(out), self.imported):
            raise Silent("other weights were imported")

    def _spoil(self, rng: random.Random, case: Path) -> None:
        state = {name: tensor.clone() for name, tensor in self.state.items()}
        name = rng.choice([name for name in state if state[name].numel() > 1])
        kind = rng.randrange(3)
        if kind == 0:
            state[name].view(-1)[0] = rng.choice((torch.nan, torch.inf))
        elif kind == 1:
            state[name] = state[name].to(rng.choice((torch.int64, torch.complex64, torch.bool)))
        else:
            state[name] = state[name][..., :-1]
        write_ckpt(case, state)
