"""`evalkit encode` and `evalkit decode` as a user calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional as AF

from evalkit.tokens import coding
from q2d2.audio import read_audio
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import load_codec, save_codec
from q2d2.codec import Codec, CodecConfig
from q2d2.codec.chunks import Chunking
from q2d2.tokens import load_tokens
from tests.command import evalkit

RATE, CODEC_RATE, HOP = 12000, 8000, 12
CONFIG = CodecConfig(
    sample_rate=CODEC_RATE, ratios=(3, 4), num_filters=2, dimension=8, lstm_layers=1, decoder_dim=64,
    decoder_intermediate=16, decoder_layers=1,
)  # fmt: skip
LENGTHS = {"anna/1.wav": 6000, "anna/2.flac": 6000, "ben/3.wav": 4801, "ben/4.wav": 1203}


def make_codec(folder: Path, seed: int = 0, bottleneck: str = "q2d2", **options: Any) -> Path:
    torch.manual_seed(seed)
    options = {"levels": [5, 5]} | options if bottleneck == "q2d2" else options
    save_codec(Codec(CONFIG, build_bottleneck(bottleneck, 8, **options)), folder)
    return folder


def write_noise(path: Path, samples: int, seed: int = 0, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, samples), rate)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds a codec and originals; the working directory."""
    make_codec(tmp_path / "codec")
    for number, (name, samples) in enumerate(LENGTHS.items()):
        write_noise(tmp_path / "originals" / name, samples, number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(root: Path) -> dict[str, Path]:
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


def whole(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (quantizers, frames) and decoded audio (samples,) of a file coded at once."""
    codec = load_codec("codec")
    samples, rate = read_audio(path)
    audio = AF.resample(torch.from_numpy(samples)[None], rate, CODEC_RATE)
    with torch.inference_mode():
        codes = codec.encode(audio)
        return codes[0], codec.decode(codes, audio.shape[-1])[0]


class TestRoundTrip:
    @pytest.mark.parametrize("layout", ["safetensors", "npz"])
    def test_is_the_codec_itself_with_names_and_lengths_kept(self, folder: Path, layout: str) -> None:
        outcome = evalkit("encode", "originals", "--codec", "codec", "-o", "tokens", "--format", layout)
        assert outcome.status == 0, outcome
        assert "4 files encoded; 1.5 s at 3.57 kbit/s, real-time factor" in outcome.out
        assert set(files(folder / "tokens")) == {f"{Path(name).with_suffix('')}.{layout}" for name in LENGTHS}
        outcome = evalkit("decode", "tokens", "--codec", "codec", "-o", "decoded", "--format", "wav")
        assert outcome.status == 0, outcome
        assert "4 files decoded" in outcome.out
        for name, samples in LENGTHS.items():
            codes, audio = whole(folder / "originals" / name)
            assert torch.equal(load_tokens(folder / "tokens" / Path(name).with_suffix(f".{layout}")).codes, codes)
            decoded, rate = soundfile.read(folder / "decoded" / Path(name).with_suffix(".wav"), dtype="float32")
            assert (rate, len(decoded)) == (CODEC_RATE, -(-samples * CODEC_RATE // RATE))
            np.testing.assert_allclose(decoded, audio.numpy(), atol=1e-5)

    def test_flac_holds_the_same_in_16_bits(self, folder: Path) -> None:
        evalkit("encode", "originals/anna/1.wav", "--codec", "codec", "-o", "tokens")
        assert evalkit("decode", "tokens", "--codec", "codec", "-o", "decoded").status == 0
        decoded, _ = soundfile.read(folder / "decoded" / "1.flac", dtype="float32")
        _, audio = whole(folder / "originals/anna/1.wav")
        np.testing.assert_allclose(decoded, audio.clamp(-1, 1).numpy(), atol=2**-15)

    def test_the_original_rate_comes_back_with_every_sample(self, folder: Path) -> None:
        evalkit("encode", "originals", "--codec", "codec", "-o", "tokens")
        options = ("--rate", "original", "--format", "wav")
        assert evalkit("decode", "tokens", "--codec", "codec", "-o", "decoded", *options).status == 0
        for name, samples in LENGTHS.items():
            decoded, rate = soundfile.read(folder / "decoded" / Path(name).with_suffix(".wav"), dtype="float32")
            assert (rate, len(decoded)) == (RATE, samples)
            _, audio = whole(folder / "originals" / name)
            np.testing.assert_allclose(decoded, AF.resample(audio, CODEC_RATE, RATE).numpy()[:samples], atol=1e-5)

    def test_batches_change_nothing(self, folder: Path) -> None:
        for number in range(3):
            write_noise(folder / "originals" / f"same{number}.wav", 6000, 10 + number)
        for seconds in (0, 60):
            options = ("--codec", "codec", "--batch-seconds", seconds)
            assert evalkit("encode", "originals", *options, "-o", f"tokens{seconds}").status == 0
            outcome = evalkit("decode", "tokens0", *options, "-o", f"decoded{seconds}", "--format", "wav")
            assert outcome.status == 0
        for name in files(folder / "tokens0"):
            single, together = (load_tokens(folder / f"tokens{seconds}" / name) for seconds in (0, 60))
            assert torch.equal(single.codes, together.codes)
        for name in files(folder / "decoded0"):
            single, together = (soundfile.read(folder / f"decoded{seconds}" / name)[0] for seconds in (0, 60))
            np.testing.assert_allclose(single, together, atol=1e-5)

    def test_long_recordings_are_coded_in_pieces(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As short ones, with the stated lengths made small: codes are equal, and the audio is joined in windows."""
        write_noise(folder / "long" / "x.wav", 4 * RATE + 7, 5)
        monkeypatch.setattr(coding, "ENCODE_SECONDS", 0.5)
        monkeypatch.setattr(coding, "Chunking", lambda: Chunking(1.0, 0.8, 0.2, 0.1))
        assert evalkit("encode", "long", "--codec", "codec", "-o", "tokens").status == 0
        codes, audio = whole(folder / "long" / "x.wav")
        assert torch.equal(load_tokens(folder / "tokens" / "x.safetensors").codes, codes)
        for rate, seconds in (("codec", 0), ("codec", 10), ("original", 0)):
            options = ("--codec", "codec", "--rate", rate, "--batch-seconds", seconds, "--overwrite")
            assert evalkit("decode", "tokens", *options, "-o", "decoded", "--format", "wav").status == 0
            decoded, found = soundfile.read(folder / "decoded" / "x.wav")
            expected = 4 * RATE + 7 if rate == "original" else len(audio)
            assert (found, len(decoded)) == (RATE if rate == "original" else CODEC_RATE, expected)
            if rate == "codec":
                difference = np.square(decoded - audio.numpy()).sum() / np.square(audio.numpy()).sum()
                assert 1e-9 < difference < 0.1


class TestAgain:
    def test_only_what_is_missing_is_done(self, folder: Path) -> None:
        (folder / "originals" / "bad.wav").write_bytes(b"RIFF, or so it says")
        for verb, source, out in (("encode", "originals", "tokens"), ("decode", "tokens", "decoded")):
            outcome = evalkit(verb, source, "--codec", "codec", "-o", out)
            assert outcome.status == (1 if verb == "encode" else 0)
            first = {name: path.stat().st_mtime_ns for name, path in files(folder / out).items()}
            assert len(first) == 4
            lost = files(folder / out).popitem()[1]
            lost.unlink()
            lost.with_name(lost.name + ".part").write_bytes(b"killed while it was written")
            outcome = evalkit(verb, source, "--codec", "codec", "-o", out)
            assert f"1 file {verb}d; " in outcome.out
            assert "; 3 finished before" in outcome.out
            again = {name: path.stat().st_mtime_ns for name, path in files(folder / out).items()}
            assert {name for name in first if again[name] == first[name]} == set(first) - {
                lost.relative_to(folder / out).as_posix()
            }
        assert "failed: originals/bad.wav: corrupt or not audio" in evalkit(
            "encode", "originals", "--codec", "codec", "-o", "tokens"
        ).out.replace("\n", " ")

    def test_what_was_made_of_something_else_is_not_taken_for_finished(self, folder: Path) -> None:
        make_codec(folder / "other", seed=1)
        encode = ("encode", "originals/anna/1.wav", "-o", "tokens", "--codec")
        assert evalkit(*encode, "codec").status == 0
        outcome = evalkit(*encode, "other")
        assert outcome.status == 1
        assert "tokens/1.safetensors exists, made of another codec, 'codec' (weights" in outcome.out
        # Another recording of equal name and length.
        write_noise(folder / "originals/anna/1.wav", 6000, 99)
        outcome = evalkit(*encode, "codec")
        assert outcome.status == 1
        assert "exists, made of another recording: use another folder, or --overwrite" in outcome.out

        decode = ("decode", "tokens", "--codec", "codec", "-o", "decoded")
        assert evalkit(*decode).status == 0
        assert evalkit(*encode, "codec", "--overwrite").status == 0
        outcome = evalkit(*decode)
        assert outcome.status == 1
        assert "decoded/1.flac exists, made of other tokens, by another codec or at another rate" in outcome.out
        assert evalkit(*decode, "--overwrite").status == 0
        assert "0 files decoded; 1 finished before" in evalkit(*decode).out
        assert "at another rate" in evalkit(*decode, "--rate", "original").out


class TestMistakes:
    def test_a_codec_without_codes_cannot_encode(self, folder: Path) -> None:
        make_codec(folder / "null", bottleneck="null")
        complaint = evalkit("encode", "originals", "--codec", "null", "-o", "tokens").complaint
        assert complaint.startswith("codec 'null' (weights ")
        assert complaint.endswith(" has no codes to write: choose a checkpoint with a bottleneck")
        assert not (folder / "tokens").exists()

    def test_tokens_of_another_codec_are_refused_unless_forced(self, folder: Path) -> None:
        make_codec(folder / "other", seed=1)
        evalkit("encode", "originals", "--codec", "codec", "-o", "tokens")
        outcome = evalkit("decode", "tokens", "--codec", "other", "-o", "decoded")
        assert outcome.status == 1
        assert outcome.out.count("tokens of 'codec' (weights ") == outcome.out.count("not of 'other' (weights ") == 4
        assert not (folder / "decoded").exists()
        assert evalkit("decode", "tokens", "--codec", "other", "-o", "decoded", "--force").status == 0

    def test_damaged_files_are_named_and_the_others_go_on(self, folder: Path) -> None:
        long = folder / "originals" / "cut.flac"
        write_noise(long, 15 * RATE)
        data = long.read_bytes()
        long.write_bytes(data[: len(data) // 2])
        write_noise(folder / "originals" / "strange.wav", 44101, rate=44101)
        outcome = evalkit("encode", "originals", "--codec", "codec", "-o", "tokens")
        assert outcome.status == 1
        assert "failed: originals/cut.flac: " in outcome.out
        assert (
            "failed: originals/strange.wav: its header says a sampling rate of 44101 Hz, which has so little"
            in outcome.out
        )
        assert "4 files encoded; " in outcome.out
        assert outcome.out.rstrip().endswith("; 2 failed")
        assert "cut.safetensors" not in files(folder / "tokens")
        path = folder / "tokens" / "anna" / "1.safetensors"
        path.write_bytes(path.read_bytes()[:-3])
        outcome = evalkit("decode", "tokens", "--codec", "codec", "-o", "decoded")
        assert outcome.status == 1
        assert "failed: tokens/anna/1.safetensors: cannot be read as a token file" in outcome.out
        assert "3 files decoded" in outcome.out

    def test_nothing_to_do_is_one_line(self, folder: Path) -> None:
        (folder / "empty").mkdir()
        for arguments, reason in (
            (("encode", "empty"), "empty: no audio in this folder"),
            (("decode", "originals"), "originals: no token files in this folder"),
            (("encode", "gone.wav"), "gone.wav: no such file or folder"),
        ):
            assert evalkit(*arguments, "--codec", "codec", "-o", "out").complaint == reason
        assert evalkit("encode", "originals", "--codec", "gone", "-o", "out").complaint.startswith("no checkpoint")

    def test_help_shows_examples(self) -> None:
        for verb in ("encode", "decode"):
            shown = " ".join(evalkit(verb, "--help").out.split())
            assert f"Examples: evalkit {verb} " in shown
            assert "exit status is then 1" in shown or "Otherwise as `evalkit encode`" in shown
