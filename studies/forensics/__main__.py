"""Measure the traps of the published quantizer and of its evaluation: a table, then `figure NAME VALUE` lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from q2d2.errors import UserError
from studies.forensics.report import print_report, write_json
from studies.forensics.trap import Trap

VARIABLE = "EVALKIT_PUBLISHED"


def measure_without_audio() -> list[Trap]:
    """All traps that need no decoded audio: random codes and latents, grids, simulated scores. Seeded."""
    from studies.forensics import averages, geometry, quantizer, speed, usage

    return [
        geometry.hexagon(),
        geometry.off_centre(),
        geometry.second_level(),
        geometry.even_levels(),
        geometry.unequal_rates(),
        quantizer.gradient(),
        quantizer.overflow(),
        quantizer.all_distances(),
        usage.entropy_over_set(),
        usage.grid_table(),
        averages.pesq_errors(),
        averages.dropped_f1(),
        averages.appended_runs(),
        speed.original_rate(),
        speed.inside_the_clock(),
    ]


def measure_with_audio(folder: Path | None) -> list[Trap]:
    """The traps that need the decoded audio in `folder`; None: one that says what is missing.

    Raises:
        PublishedError, AudioError: the folder or a file of it cannot be used.
    """
    from studies.forensics.audio import audio_traps, without_audio
    from studies.forensics.decoded_audio import read_published

    if folder is None:
        return [without_audio(f"needs decoded audio of published codecs: --published DIR, or set {VARIABLE}")]
    return audio_traps(read_published(folder))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: what the user can mend is one line and exit status 1, never a traceback."""
    parser = argparse.ArgumentParser(prog="python -m studies.forensics", description=__doc__)
    parser.add_argument(
        "--published",
        type=Path,
        metavar="DIR",
        help=f"folder with scores.csv and DATASET/SYSTEM/UTTERANCE.flac, originals in SYSTEM gt (default: ${VARIABLE})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything in full precision too")
    options = parser.parse_args(arguments)
    named = os.environ.get(VARIABLE)
    folder = options.published or (Path(named) if named else None)
    try:
        with_audio = measure_with_audio(folder)  # first, so that a wrong folder shows at once
        traps = measure_without_audio() + with_audio
        print_report(traps)
        if options.json:
            from evalkit.speed import hardware_fingerprint

            write_json(options.json, traps, hardware_fingerprint())
    except UserError as error:
        sys.exit(f"studies.forensics: {error}")
    except OSError as error:
        sys.exit(f"studies.forensics: {error.filename or ''}: {error.strerror or error}")


if __name__ == "__main__":
    main()
