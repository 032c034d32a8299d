"""Make evalkit/datasets/sample_corpus: synthetic speech of six voices, a train and a test part.

    apt-get install flite        # 2.2; nothing else but this project's requirements
    python tools/make_sample_corpus.py [FOLDER]

The same flite gives the same samples on every run; manifest.json holds their SHA-256, of the decoded 16-bit samples,
so that another FLAC encoder does not matter. The sentences were written for this corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16_000
PEAK = 0.5  # of full scale (-6 dBFS), so that all voices are about as loud
FOLDER = Path(__file__).resolve().parent.parent / "evalkit" / "datasets" / "sample_corpus"

# Voice -> flite's options. The last two are flite's voices with another pitch (factor) and tempo (stretch).
VOICES = {
    "slt": ("-voice", "slt"),
    "rms": ("-voice", "rms"),
    "awb": ("-voice", "awb"),
    "kal": ("-voice", "kal16"),
    "low": ("-voice", "slt", "--setf", "f0_shift=0.72", "--setf", "duration_stretch=1.08"),
    "high": ("-voice", "rms", "--setf", "f0_shift=1.35", "--setf", "duration_stretch=0.92"),
}

# Four sentences a voice for training, two for the test; no sentence is said twice.
SENTENCES = {
    "train": {
        "slt": (
            "The lighthouse keeper counted seven boats before the fog came in.",
            "Please leave the green umbrella beside the kitchen door.",
            "A short walk through the orchard is enough to clear my head.",
            "They measured every shelf twice and still bought the wrong wood.",
        ),
        "rms": (
            "Fresh bread and salted butter make a perfectly good lunch.",
            "The old clock on the tower is always nine minutes slow.",
            "Our train was held at the bridge while a herd of sheep crossed.",
            "She wrote the whole speech on the back of a postcard.",
        ),
        "awb": (
            "Thick clouds gathered above the valley just after noon.",
            "He keeps a box of rusty keys that open nothing at all.",
            "The choir will rehearse in the gymnasium until Thursday.",
            "You could hear the river long before you could see it.",
        ),
        "kal": (
            "Two geese chased the postman all the way to the gate.",
            "The museum closes early when the staff go fishing.",
            "Put the heavy books low and the light ones high.",
            "My cousin repairs bicycles in a shed behind the church.",
        ),
        "low": (
            "We watched the harvest moon rise over the barn.",
            "A zebra is easier to draw than a giraffe.",
            "The violin had lost two strings but not its voice.",
            "Every June the village paints its fences blue.",
        ),
        "high": (
            "The pilot thanked the crew and dimmed the cabin lights.",
            "Which of these jars holds the ginger and which the salt?",
            "Snow fell so softly that nobody in the house woke up.",
            "The judge asked for quiet, and for a glass of water.",
        ),
    },
    "test": {
        "slt": (
            "The baker sold his last plum cake at half past three.",
            "Wind from the east usually brings dry weather.",
        ),
        "rms": (
            "A child waved from the window of the yellow tram.",
            "They found the missing chess piece under the rug.",
        ),
        "awb": ("Her brother is learning to juggle with four oranges.", "The path turns sharply left behind the mill."),
        "kal": ("Nobody remembers who planted these tall poplars.", "Sharpen the pencil and check the figures again."),
        "low": ("The ferry leaves as soon as the tide allows it.", "His voice sounded calm, although his hands shook."),
        "high": ("Seven students shared one very large pizza.", "The garden is full of thyme, sage and young peas."),
    },
}


def flite_version() -> str:
    """What flite says of itself.

    Raises:
        SystemExit: flite is not installed.
    """
    if shutil.which("flite") is None:
        sys.exit("flite is not installed; on Debian and Ubuntu: apt-get install flite")
    printed = subprocess.run(["flite", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"version: (\S+)", printed.stdout + printed.stderr)
    return version[1] if version else "unknown"


def speak(voice: str, sentence: str, folder: Path) -> np.ndarray:
    """Samples of `sentence`, int16 (samples,) at SAMPLE_RATE, scaled to PEAK.

    Raises:
        ValueError: flite gives another format than 16 kHz mono.
    """
    wav = folder / "speech.wav"
    subprocess.run(["flite", *VOICES[voice], "-t", sentence, "-o", str(wav)], check=True)
    samples, rate = soundfile.read(wav, dtype="float64", always_2d=True)
    if rate != SAMPLE_RATE or samples.shape[1] != 1:
        raise ValueError(f"voice {voice}: flite gave {rate} Hz and {samples.shape[1]} channels, not 16 kHz mono")
    mono = samples[:, 0]
    return np.round(mono * (PEAK / np.abs(mono).max()) * 32767).astype(np.int16)


def make(folder: Path) -> None:
    """Write the clips and manifest.json below `folder`; clips of an earlier run are replaced."""
    version, clips = flite_version(), []
    with tempfile.TemporaryDirectory() as scratch:
        for part, voices in SENTENCES.items():
            shutil.rmtree(folder / part, ignore_errors=True)
            (folder / part).mkdir(parents=True)
            first = 1 if part == "train" else 1 + len(SENTENCES["train"]["slt"])
            for voice, sentences in voices.items():
                for number, sentence in enumerate(sentences, start=first):
                    samples = speak(voice, sentence, Path(scratch))
                    name = f"{voice}_{number:02d}"
                    soundfile.write(folder / part / f"{name}.flac", samples, SAMPLE_RATE, subtype="PCM_16")
                    clips.append(
                        {
                            "id": name,
                            "part": part,
                            "voice": voice,
                            "samples": len(samples),
                            "sha256": hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest(),
                            "text": sentence,
                        }
                    )
    manifest = {"made_with": version, "sample_rate": SAMPLE_RATE, "clips": clips}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for part in SENTENCES:
        seconds = [clip["samples"] / SAMPLE_RATE for clip in clips if clip["part"] == part]
        print(f"{part}: {len(seconds)} clips, {sum(seconds):.1f} s, {min(seconds):.1f} to {max(seconds):.1f} s each")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.2f} MB, made with {version}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the sample corpus.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    make(parser.parse_args().folder)
