"""How often the gate flags noise, how often it finds what it says it could, and a real regression with --speech.

Noise: 50 utterances of 12 speakers, 6 metrics that agree in part, 2 systems; the candidate differs by noise of mean 0.
Baseline: the same tests without Holm's correction. Thresholds are 0, so that the tests alone decide.
Real: every file coded by Opus, and the same with white noise at 30 dB SNR, scored by `evalkit score`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.timing import hardware, print_figure
from evalkit.gate import Comparison, Verdict, compare_runs, load_gate
from evalkit.gate.as_text import to_text
from evalkit.run.saved_run import SavedRun, load_run
from q2d2.audio import read_audio
from tests.gate_runs import METRICS, SYSTEMS, base_scores, gate, make_run, noisy

SNR = 30
SCORED = "pesq,stoi,estoi,mel_distance,stft_distance,si_sdr"


def noise(calls: int) -> None:
    """Share of calls that flag anything, with and without correction, and with the default thresholds."""
    scores = base_scores()
    baseline = make_run(scores)
    flagged = {"corrected": 0, "uncorrected": 0, "default thresholds": 0}
    for seed in range(1, calls + 1):
        candidate = make_run(noisy(scores, seed))
        verdict = compare_runs(baseline, candidate, gate(thresholds={}))
        flagged["corrected"] += verdict.decision != "same"
        flagged["uncorrected"] += any(one.p is not None and one.p < verdict.gate.alpha for one in verdict.comparisons)
        # The thresholds change no test.
        flagged["default thresholds"] += compare_runs(baseline, candidate, load_gate()).decision != "same"
    for name, count in flagged.items():
        print(f"{name:<20}{100 * count / calls:6.1f} % of {calls:,} calls flag something")
        print_figure(f"gate.flagged.{name.replace(' ', '_')}", count / calls)


def power(calls: int) -> None:
    """Share of calls that find a difference of the size told as `detectable`, by what the tests rank."""
    scores = base_scores()
    for unit, speakers in (("12 speakers", None), ("50 utterances", [f"s{number}" for number in range(50)])):
        baseline = make_run(scores, speakers=speakers)
        found = 0
        for seed in range(1, calls + 1):
            moved = noisy(scores, 10_000 + seed)
            told = _pesq(compare_runs(baseline, make_run(moved, speakers=speakers), load_gate())).detectable
            assert told is not None
            moved["fsq", "pesq"] = moved["fsq", "pesq"] - told
            verdict = compare_runs(baseline, make_run(moved, speakers=speakers), gate(thresholds={}))
            found += _pesq(verdict).outcome == "regression"
        print(f"{unit:<20}{100 * found / calls:6.1f} % of {calls:,} differences of the size told are found")
        print_figure(f"gate.found.{unit.replace(' ', '_')}", found / calls)


def _pesq(verdict: Verdict) -> Comparison:
    return next(one for one in verdict.comparisons if (one.system, one.metric) == ("fsq", "pesq"))


def real(speech: Path, utterances: int) -> None:
    """Opus against Opus with white noise: what `evalkit compare` says."""
    with tempfile.TemporaryDirectory() as folder:
        runs = _score(Path(folder), sorted(speech.rglob("*.flac"))[:utterances])
        for name, candidate in (("itself", runs[0]), (f"noise at {SNR} dB SNR", runs[1])):
            print(f"\nagainst {name}")
            verdict = compare_runs(runs[0], candidate, load_gate())
            print(to_text(verdict))
            print_figure(f"gate.real.{'same' if candidate is runs[0] else 'noisy'}.exit_status", verdict.exit_status)


def _score(root: Path, files: list[Path]) -> list[SavedRun]:
    for name in ("originals", "opus", "noisy"):
        (root / name).mkdir()
    for number, path in enumerate(files):
        audio, rate = read_audio(path)
        packed = root / "packed.ogg"
        soundfile.write(packed, audio, rate, format="OGG", subtype="OPUS", compression_level=0.95)
        decoded = read_audio(packed)[0]
        white = np.random.default_rng(number).standard_normal(decoded.size)
        white *= np.sqrt(np.mean(decoded**2) / np.mean(white**2) / 10 ** (SNR / 10))
        for name, signal in (("originals", audio), ("opus", decoded), ("noisy", decoded + white)):
            soundfile.write(root / name / f"{path.stem}.wav", signal, rate, subtype="FLOAT")
    runs = []
    for name in ("opus", "noisy"):
        command = [sys.executable, "-m", "evalkit", "score", str(root / "originals"), str(root / name)]
        subprocess.run(
            [*command, "--metrics", SCORED, "--out", str(root / f"run-{name}")], check=True, stdout=subprocess.DEVNULL
        )
        runs.append(load_run(root / f"run-{name}"))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__)
    parser.add_argument("--calls", type=int, default=1000, help="simulated comparisons (default: %(default)s)")
    parser.add_argument("--speech", type=Path, help="folder of FLAC files, such as LibriSpeech's test-clean")
    parser.add_argument("--utterances", type=int, default=50, help="of them (default: %(default)s)")
    options = parser.parse_args()
    print(hardware())
    print(f"{len(SYSTEMS)} systems, {len(METRICS)} metrics, alpha 0.05")
    if options.calls:
        noise(options.calls)
        power(max(options.calls // 4, 1))
    if options.speech:
        real(options.speech, options.utterances)


if __name__ == "__main__":
    main()
