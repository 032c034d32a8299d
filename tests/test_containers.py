"""Headers are claims: a file that is not whole, or whose length nobody knows, is refused by name or read to its end."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from q2d2.audio import MOST_CHANNELS, MOST_SAMPLES, AudioError, check_audio, read_audio, read_blocks, read_header
from q2d2.mpeg import scan_mpeg

RATE = 24_000
FORMATS = {
    "wav": {}, "wavex": {"format": "WAVEX"}, "float.wav": {"subtype": "FLOAT"}, "adpcm.wav": {"subtype": "IMA_ADPCM"},
    "rf64": {"format": "RF64"}, "w64": {"format": "W64"}, "aiff": {}, "float.aiff": {"subtype": "FLOAT"},
    "adpcm.aiff": {"subtype": "IMA_ADPCM"}, "au": {}, "caf": {}, "alac.caf": {"subtype": "ALAC_16"},
    "sph": {"format": "NIST"}, "flac": {}, "ogg": {}, "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
}  # fmt: skip


def babble(samples: int = RATE) -> np.ndarray:
    """Noise whose level rises and falls, so that a variable bit rate varies."""
    level = 0.02 + 0.4 * np.sin(np.arange(samples) * 8 / RATE) ** 8
    return (level * np.random.default_rng(0).uniform(-1, 1, samples)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A second of audio in each format."""
    folder = tmp_path_factory.mktemp("whole")
    for name, options in FORMATS.items():
        soundfile.write(folder / f"a.{name}", babble(), RATE, **options)
    return {name: (folder / f"a.{name}").read_bytes() for name in FORMATS}


def variable_mp3(signal: np.ndarray) -> tuple[bytes, int]:
    """An MP3 of variable bit rate, and where the frame that holds its length ends."""
    coded = io.BytesIO()
    with soundfile.SoundFile(coded, "w", RATE, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5) as file:
        file.write(signal)
    data = coded.getvalue()
    return data, data.index(b"\xff" + data[1:2], 4)


def readers(path: Path) -> list[Callable[[], object]]:
    return [
        lambda: read_header(path), lambda: read_audio(path), lambda: list(read_blocks(path)), lambda: check_audio(path)
    ]  # fmt: skip


def refused(path: Path, data: bytes) -> str:
    """The one reason that every way of reading gives."""
    path.write_bytes(data)
    reasons = set()
    for read in readers(path):
        with pytest.raises(AudioError) as caught:
            read()
        reasons.add(caught.value.reason)
    (reason,) = reasons
    return reason


def length(path: Path, data: bytes) -> int:
    """The one length that every way of reading gives."""
    path.write_bytes(data)
    header = read_header(path)
    lengths = {header.frames, read_audio(path)[0].size, sum(block.size for block in read_blocks(path, 0.1))}
    tail = read_audio(path, header.frames - 100, 100)[0]
    assert tail.size == 100
    (found,) = lengths
    return found


class TestWhole:
    @pytest.mark.parametrize("name", FORMATS)
    def test_is_read_to_its_end(self, whole: dict[str, bytes], name: str, tmp_path: Path) -> None:
        slack = 1100 if "adpcm" in name else 0  # whole blocks
        assert RATE <= length(tmp_path / f"a.{name}", whole[name]) <= RATE + slack

    @pytest.mark.parametrize("name", ["wav", "w64", "aiff", "au", "flac", "ogg", "mp3"])
    @pytest.mark.parametrize("tail", [b"TAG" + bytes(125), b"APETAGEX" + bytes(range(256)) * 20, bytes(4096)])
    def test_tags_behind_it_are_no_samples(
        self, whole: dict[str, bytes], name: str, tail: bytes, tmp_path: Path
    ) -> None:
        assert length(tmp_path / f"a.{name}", whole[name] + tail) == RATE

    @pytest.mark.parametrize("name", ["wav", "aiff", "au", "mp3"])
    def test_a_tag_before_it_is_passed_over(self, whole: dict[str, bytes], name: str, tmp_path: Path) -> None:
        tag = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048)
        assert length(tmp_path / f"a.{name}", tag + whole[name]) == RATE

    def test_many_channels_are_averaged_without_being_held_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signal = np.stack([babble(), *([np.zeros(RATE)] * 7)], axis=1)
        soundfile.write(tmp_path / "a.wav", signal, RATE, subtype="FLOAT")
        at_once, _ = read_audio(tmp_path / "a.wav")
        monkeypatch.setattr("q2d2.audio._BLOCK", 8 * 1000)
        np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], at_once)


class TestCutOff:
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("share", [0.4, 0.8])
    def test_is_refused_by_name(self, whole: dict[str, bytes], name: str, share: float, tmp_path: Path) -> None:
        data = whole[name]
        assert "cut off" in refused(tmp_path / f"a.{name}", data[: int(len(data) * share)])

    def test_flac_within_its_last_frame_when_that_is_decoded(self, whole: dict[str, bytes], tmp_path: Path) -> None:
        path = tmp_path / "a.flac"
        path.write_bytes(whole["flac"][:-1])
        for read in readers(path)[1:]:
            with pytest.raises(AudioError, match=r"a\.flac: (cut off|cannot be decoded)"):
                read()

    @pytest.mark.parametrize("name", [name for name in FORMATS if "flac" not in name])
    def test_by_its_last_bytes(self, whole: dict[str, bytes], name: str, tmp_path: Path) -> None:
        cut = whole[name][:-1] if name != "alac.caf" else whole[name][:-5000]
        assert "cut off" in refused(tmp_path / f"a.{name}", cut)

    @pytest.mark.parametrize("name", ["wav", "rf64", "w64", "aiff", "au", "caf", "ogg", "flac"])
    def test_within_its_headers(self, whole: dict[str, bytes], name: str, tmp_path: Path) -> None:
        for end in range(1, 60, 7):
            assert refused(tmp_path / f"a.{name}", whole[name][:end])

    def test_ogg_between_pages_and_a_page_that_is_lost_or_damaged(
        self, whole: dict[str, bytes], tmp_path: Path
    ) -> None:
        data = whole["ogg"]
        pages = [place for place in range(len(data)) if data[place : place + 4] == b"OggS"]
        path = tmp_path / "a.ogg"
        assert "the page that ends the stream is missing" in refused(path, data[: pages[-1]])
        assert "page 3 of its stream comes where page 2" in refused(path, data[: pages[2]] + data[pages[3] :])
        flipped = bytearray(data)
        flipped[pages[2] + 200] ^= 1
        assert "page 2 of its stream has another checksum" in refused(path, bytes(flipped))
        assert "several streams" in refused(path, data + data)
        assert "several streams" in refused(path, data + whole["opus"])

    def test_formats_that_nobody_checks_are_refused(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.voc", babble(), RATE)
        with pytest.raises(AudioError, match="VOC files cannot be checked for being whole; convert it to FLAC or WAV"):
            read_header(tmp_path / "a.voc")


class TestLengths:
    @pytest.mark.parametrize(("name", "size"), [("wav", 4), ("w64", 8), ("caf", 8)])
    def test_zero_is_a_length_unknown(self, whole: dict[str, bytes], name: str, size: int, tmp_path: Path) -> None:
        data = bytearray(whole[name])
        place = data.index(b"data") + (16 if name == "w64" else 4)
        data[place : place + size] = bytes(size)
        reason = refused(tmp_path / f"a.{name}", bytes(data))
        assert reason.startswith("the header says 0 bytes of samples, 48")
        assert "ffmpeg -ignore_length 1" in reason

    def test_zero_in_other_places(self, whole: dict[str, bytes], tmp_path: Path) -> None:
        for name, mark, offset in (("au", b".snd", 8), ("aiff", b"SSND", 4), ("rf64", b"ds64", 16)):
            data = bytearray(whole[name])
            place = data.index(mark) + offset
            data[place : place + (8 if name == "rf64" else 4)] = bytes(8 if name == "rf64" else 4)
            assert "a stream whose length was never written" in refused(tmp_path / f"a.{name}", bytes(data))

    @pytest.mark.parametrize(("name", "mark", "offset"), [("w64", b"fmt ", 16), ("caf", b"desc", 4)])
    def test_a_chunk_that_no_disk_could_hold(
        self, whole: dict[str, bytes], name: str, mark: bytes, offset: int, tmp_path: Path
    ) -> None:
        data = bytearray(whole[name])
        place = data.index(mark)
        data[place + offset : place + offset + 8] = (2**63 + 8).to_bytes(8, "little" if name == "w64" else "big")
        assert refused(tmp_path / f"a.{name}", bytes(data))

    def test_a_file_without_samples_is_empty(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
        assert refused(tmp_path / "a.wav", (tmp_path / "a.wav").read_bytes()) == "empty: no samples"

    @pytest.mark.parametrize(("total", "reason"), [
        (0, "the header holds no length; convert"),
        (RATE // 2, "the header promises 12000 samples, 24000 are there"),
        (RATE + 1, "cut off: the header promises 24001 samples, about 24000 are there"),
        (2**36 - 1, "the header promises 68,719,476,735 samples, more than"),
    ])  # fmt: skip
    def test_of_flac(self, whole: dict[str, bytes], total: int, reason: str, tmp_path: Path) -> None:
        data = bytearray(whole["flac"])
        data[21] = data[21] & 0xF0 | total >> 32
        data[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
        assert refused(tmp_path / "a.flac", bytes(data)).startswith(reason)

    def test_promises_take_no_memory(self, whole: dict[str, bytes], tmp_path: Path) -> None:
        data = bytearray(whole["rf64"])
        place = data.index(b"ds64") + 16
        data[place : place + 8] = struct.pack("<Q", 2**40)
        assert "promises 1099511627776 bytes of audio, 48000 are there" in refused(tmp_path / "a.rf64", bytes(data))

    def test_what_is_read_whole_has_a_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert MOST_SAMPLES / 16_000 > 4 * 3600
        monkeypatch.setattr("q2d2.audio.MOST_SAMPLES", RATE - 1)
        soundfile.write(tmp_path / "a.wav", babble(), RATE)
        with pytest.raises(AudioError, match=r"24,000 samples \(0\.0 hours\) to be read at once, at most 23,999: cut"):
            read_audio(tmp_path / "a.wav")
        assert read_audio(tmp_path / "a.wav", 0, RATE - 1)[0].size == RATE - 1
        assert sum(block.size for block in read_blocks(tmp_path / "a.wav")) == RATE


class TestFormat:
    @pytest.mark.parametrize("rate", [1, 2, 999_983, 10_000_019, 11_127, 44_099])
    def test_a_rate_that_no_recording_has(self, whole: dict[str, bytes], rate: int, tmp_path: Path) -> None:
        data = bytearray(whole["wav"])
        data[24:28] = struct.pack("<I", rate)
        start = time.perf_counter()
        reason = refused(tmp_path / "a.wav", bytes(data))
        with pytest.raises(AudioError, match=f"a sampling rate of {rate} Hz"):
            read_audio(tmp_path / "a.wav", 100, 100)  # a segment, as in training
        assert reason.startswith(f"its header says a sampling rate of {rate} Hz")
        assert time.perf_counter() - start < 1

    def test_a_thousand_channels(self, whole: dict[str, bytes], tmp_path: Path) -> None:
        data = bytearray(whole["wav"])
        data[22:24] = struct.pack("<H", 1000)
        assert refused(tmp_path / "a.wav", bytes(data)) == (
            f"its header says 1000 channels; at most {MOST_CHANNELS} are averaged into one"
        )


class TestMp3WithoutItsLength:
    def test_a_guess_that_is_short_is_refused(self, tmp_path: Path) -> None:
        """Today half of the audio is lost without a word."""
        data, begin = variable_mp3(np.concatenate([babble(RATE // 4), 0.001 * babble()]))
        loud_first = data[begin:]
        there = scan_mpeg(loud_first).samples
        assert there > 1.25 * RATE
        reason = refused(tmp_path / "a.mp3", loud_first)
        assert f"is short of the {there} that are there" in reason
        assert reason.startswith("the header holds no length")

    def test_a_guess_that_is_long_is_read_to_the_end(self, tmp_path: Path) -> None:
        """Today it is refused as cut off though whole."""
        data, begin = variable_mp3(np.concatenate([np.zeros(RATE // 4, np.float32), babble()]))
        quiet_first = data[begin:]
        there = scan_mpeg(quiet_first).samples
        assert length(tmp_path / "a.mp3", quiet_first) == there > 1.25 * RATE
        assert length(tmp_path / "b.mp3", quiet_first + b"APETAGEX" + bytes(5000)) == there

    def test_with_its_length_it_is_held_to_it(self, tmp_path: Path) -> None:
        data, _ = variable_mp3(babble())
        assert length(tmp_path / "a.mp3", data) == RATE
        assert "several files in one" in refused(tmp_path / "a.mp3", data + data)
        frames = scan_mpeg(data)
        assert frames.promised == frames.frames
