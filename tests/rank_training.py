"""One process of a training of several, for tests: torchrun [options] rank_training.py AUDIO OUT NAMES KEY=VALUE...

Trains each bottleneck of NAMES (commas between them) with the settings of small_training, changed by KEY=VALUE (YAML).
Leaves OUT/rankN.pid at the start, and what this rank holds at the end of a training in OUT/NAME.rankN.pt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from q2d2.errors import Stopped, UserError
from q2d2.training import loop
from tests.small_training import train_one

BOTTLENECKS: dict[str, dict[str, Any]] = {
    "null": {"name": "null"},
    "rectangular": {"name": "q2d2", "tiling": "rectangular", "levels": [7, 7]},
    "rhombic": {"name": "q2d2", "tiling": "rhombic", "levels": [7, 7, 7, 7]},
    "fsq": {"name": "fsq", "levels": [5, 5, 5]},
    "vq": {"name": "vq", "codebook_size": 24, "dead_code_fraction": 0.5},
    "rvq": {"name": "rvq", "codebook_size": 8, "num_quantizers": 3, "codebook_dim": 4, "quantizer_dropout": 0.5},
}


def main(audio: str, out: str, names: str, *changes: str) -> None:
    torch.set_num_threads(1)
    rank = os.environ.get("RANK", "0")
    Path(out, f"rank{rank}.pid").write_text(str(os.getpid()))
    held: dict[str, Any] = {}
    set_up = loop._set_up

    def remembering(*arguments: Any) -> Any:
        stepper, parts = set_up(*arguments)
        held.update(parts)
        return stepper, parts

    loop._set_up = remembering
    values = {key: yaml.safe_load(value) for key, value in (change.split("=", 1) for change in changes)}
    for name in names.split(","):
        held.clear()
        try:
            train_one(Path(audio), Path(out, name), BOTTLENECKS[name], **values)
        except Stopped as error:
            print(error, file=sys.stderr)
            sys.exit(143)
        except UserError as error:
            sys.exit(f"rank {rank}: {error}")
        states = {part: held[part].state_dict() for part in ("codec", "discriminators") if part in held}
        torch.save(states, Path(out, f"{name}.rank{rank}.pt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
