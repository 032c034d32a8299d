"""The command line called inside the test's process, and a tiny experiment for it."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import yaml

from evalkit.cli.main import main

TINY: dict[str, Any] = {
    "name": "trial",
    "title": "Trial [of all]",
    "backbone": {
        "size": "tiny",
        "changes": {
            "num_filters": 2, "dimension": 8, "lstm_layers": 1, "decoder_dim": 64, "decoder_intermediate": 64,
            "decoder_layers": 1,
        },
    },
    "data": {"train": [{"name": "sample", "part": "train"}], "test": {"name": "sample", "part": "test", "limit": 2}},
    "train": {
        "recipe": "spectral",
        "steps": 12, "batch_size": 1, "segment_seconds": 0.1, "warmup_steps": 2, "checkpoint_every": 2, "log_every": 4,
        "num_workers": 1,
    },
    "speed": {"seconds": 1.0, "repeats": 1},
    "examples": 1,
    "systems": {
        "unquantized": {"bottleneck": {"name": "unquantized"}},
        "rectangular": {"bottleneck": {"name": "q2d2", "tiling": "rectangular", "levels": [5, 5]}},
        "rhombic": {"bottleneck": {"name": "q2d2", "tiling": "rhombic", "levels": [5, 5]}},
        "hexagonal": {"bottleneck": {"name": "q2d2", "tiling": "hexagonal", "levels": [5, 5]}},
        "hexagonal-regular": {"bottleneck": {"name": "q2d2", "tiling": "hexagonal-regular", "levels": [5, 5]}},
        "fsq": {"bottleneck": {"name": "fsq", "levels": [5, 5]}},
        "vq": {"bottleneck": {"name": "vq", "codebook_size": 16}},
        "rvq": {"bottleneck": {"name": "rvq", "codebook_size": 8, "num_quantizers": 2}},
    },
}  # fmt: skip


class Outcome(NamedTuple):
    """What a command left: exit status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that a refused command prints, without its prefix."""
        assert self.status == 1, self
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("evalkit: "), self.err
        return lines[0].removeprefix("evalkit: ")


def evalkit(*arguments: object, width: int = 80) -> Outcome:
    """Run `evalkit ARGUMENTS` in this process, on a terminal `width` characters wide; a defect raises."""
    out, err = io.StringIO(), io.StringIO()
    status: Any = 0
    with (
        mock.patch.object(sys, "argv", ["evalkit", *map(str, arguments)]),
        mock.patch.dict("os.environ", {"COLUMNS": str(width), "NO_COLOR": "1"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
    if isinstance(status, str):
        return Outcome(1, out.getvalue(), err.getvalue() + status + "\n")
    return Outcome(status, out.getvalue(), err.getvalue())


def write_experiment(path: Path, **changes: Any) -> Path:
    """Write TINY with top-level sections replaced."""
    path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False), encoding="utf-8")
    return path
