"""The rows of a sweep: one a trial, and one a trial, metric and utterance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evalkit.run.frames import read_parquet, write_parquet
from evalkit.sweeps.folder import SweepFolder
from evalkit.sweeps.state import trial_folder

TRIALS, UTTERANCES = "trials.parquet", "utterances.parquet"
# What is taken over from a trial's systems.parquet; `entropy` is in bits per frame, over all quantizers.
SYSTEM_COLUMNS = (
    "codebook_sizes", "frame_rate", "frames_counted", "utilization", "entropy", "normalized_entropy", "perplexity",
    "parameters", "train_steps", "checkpoint_sha256", "bottleneck",
)  # fmt: skip
UTTERANCE_COLUMNS = (
    "trial", "dataset", "utterance", "speaker", "metric", "value", "status", "detail", "protocol", "version",
)  # fmt: skip


@dataclass(frozen=True)
class SweepRows:
    """All that is known of a sweep's trials.

    Attributes:
        trials: id, configuration, label, family, seed, target, bits_per_frame, bitrate, state, reason, seconds, host
            and SYSTEM_COLUMNS; a trial without a result has its state and nothing of the latter.
        utterances: UTTERANCE_COLUMNS, of all trials that left rows.
    """

    trials: pd.DataFrame
    utterances: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Keep both as Parquet files in `folder`."""
        for frame, name in ((self.trials, TRIALS), (self.utterances, UTTERANCES)):
            write_parquet(frame, folder / name)


def collect(sweep: SweepFolder) -> SweepRows:
    """Read what the trials of a sweep have left so far."""
    trials: list[dict[str, Any]] = []
    utterances: list[pd.DataFrame] = []
    for trial, state in sweep.states():
        folder = trial_folder(sweep.folder, trial["id"])
        row = {key: value for key, value in trial.items() if key != "values"}
        row |= {"state": state.state, "reason": state.reason, "seconds": state.seconds, "host": state.host}
        row |= dict.fromkeys(SYSTEM_COLUMNS)
        if state.state in ("done", "failed") and (folder / "systems.parquet").is_file():
            (known,) = read_parquet(folder / "systems.parquet").to_dict("records")
            row |= {column: known.get(column) for column in SYSTEM_COLUMNS}
            row["bits_per_frame"] = row["bits_per_frame"] or known.get("bits_per_frame")
            row["bitrate"] = row["bitrate"] or known.get("bitrate")
            rows = read_parquet(folder / "utterances.parquet")
            utterances.append(rows.assign(trial=trial["id"])[list(UTTERANCE_COLUMNS)])
        trials.append(row)
    empty = pd.DataFrame(columns=list(UTTERANCE_COLUMNS))
    return SweepRows(pd.DataFrame(trials), pd.concat(utterances, ignore_index=True) if utterances else empty)


def known_rows(sweep: SweepFolder) -> SweepRows:
    """The rows of a sweep's trials; of one kept without their folders, as committed results are, those kept with it."""
    begun = any(trial_folder(sweep.folder, trial["id"]).is_dir() for trial in sweep.trials)
    return collect(sweep) if begun or not (sweep.folder / TRIALS).is_file() else read_rows(sweep.folder)


def read_rows(folder: Path) -> SweepRows:
    """What `SweepRows.write` left in `folder`, as committed results have it.

    Raises:
        OSError: a file is missing.
    """
    return SweepRows(read_parquet(folder / TRIALS), read_parquet(folder / UTTERANCES))
