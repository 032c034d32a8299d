"""Corpora: layouts, coverage, order, and every kind of bad file handled and reported by name."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evalkit.datasets import DATASETS, AudioError, DatasetError, check_corpus, load_corpus, read_audio
from q2d2.registry import UnknownName

RATE = 16_000


def noise(seconds: float = 0.5, channels: int = 1, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * RATE), channels))
    return samples[:, 0] if channels == 1 else samples


def write(path: Path, samples: np.ndarray | None = None, rate: int = RATE, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise() if samples is None else samples, rate, subtype=subtype)
    return path


@pytest.fixture(autouse=True)
def _no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DATASETS.names():
        monkeypatch.delenv(f"EVALKIT_{name.upper()}_ROOT", raising=False)


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    """A partial LibriSpeech, its files created in an order that is not that of the ids."""
    for name in ("61-70968-0002", "1089-134686-0001", "61-70968-0000", "1089-134686-0000"):
        speaker, chapter, _ = name.split("-")
        write(tmp_path / "LibriSpeech" / "test-clean" / speaker / chapter / f"{name}.flac")
    return tmp_path


class TestLayouts:
    @pytest.mark.parametrize("inside", ["", "LibriSpeech"])
    def test_librispeech_from_either_root(self, librispeech: Path, inside: str) -> None:
        corpus = load_corpus("librispeech", "test-clean", librispeech / inside)
        assert [utterance.id for utterance in corpus.utterances] == [
            "1089-134686-0000",
            "1089-134686-0001",
            "61-70968-0000",
            "61-70968-0002",
        ]
        assert corpus.speakers == ("1089", "61")
        assert corpus.expected == 2620
        assert corpus.coverage == "4 of 2,620 utterances (partial)"
        assert corpus.utterances[0].frames == RATE // 2
        assert corpus.seconds == pytest.approx(2.0)
        assert not corpus.problems
        assert not corpus.notes

    def test_order_does_not_depend_on_the_directory(self, librispeech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        straight = load_corpus("librispeech", "test-clean", librispeech)
        walk = os.walk

        def backwards(*args: object, **options: object) -> Iterator[tuple[str, list[str], list[str]]]:
            for parent, folders, names in list(walk(*args, **options))[::-1]:
                yield parent, folders, names[::-1]

        monkeypatch.setattr(os, "walk", backwards)
        assert load_corpus("librispeech", "test-clean", librispeech).utterances == straight.utterances

    @pytest.mark.parametrize("suffix", ["wav", "flac"])
    def test_libritts(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / "LibriTTS" / "test-clean" / "1089" / "134686" / f"1089_134686_000001_000001.{suffix}"
        write(path, rate=24_000)
        path.with_suffix(".normalized.txt").write_text("text beside the audio is no problem")
        corpus = load_corpus("libritts", "test-clean", tmp_path)
        assert corpus.coverage == "1 of 4,837 utterances (partial)"
        assert (corpus.utterances[0].speaker, corpus.utterances[0].sample_rate) == ("1089", 24_000)
        assert not corpus.problems

    @pytest.mark.parametrize("folder", ["LJSpeech-1.1/wavs", "LJSpeech/wavs", "wavs"])
    def test_ljspeech(self, tmp_path: Path, folder: str) -> None:
        write(tmp_path / folder / "LJ001-0002.wav", rate=22_050)
        corpus = load_corpus("ljspeech", root=tmp_path)
        assert (corpus.part, corpus.coverage) == ("all", "1 of 13,100 utterances (partial)")
        assert corpus.utterances[0].speaker == "LJ"

    def test_files_out_of_place_are_reported(self, librispeech: Path) -> None:
        part = librispeech / "LibriSpeech" / "test-clean"
        elsewhere = write(part / "61" / "70968" / "1089-134686-0000.flac")
        named = write(part / "61" / "70968" / "take2.flac")
        corpus = load_corpus("librispeech", "test-clean", librispeech)
        assert [problem.path for problem in corpus.problems] == [elsewhere, named]
        assert len(corpus.utterances) == 4

    def test_complete_and_unknown_counts(self, tmp_path: Path) -> None:
        assert load_corpus("sample", "test").coverage == "12 of 12 utterances (complete)"
        write(tmp_path / "one.wav")
        assert load_corpus("folder", root=tmp_path).coverage == "1 utterance"


class TestFolder:
    def test_ids_and_speakers(self, tmp_path: Path) -> None:
        write(tmp_path / "b" / "night" / "x.WAV")
        write(tmp_path / "a" / "x.flac")
        write(tmp_path / "top.ogg")
        (tmp_path / "notes.txt").write_text("not audio")
        write(tmp_path / ".cache" / "hidden.wav")
        corpus = load_corpus("folder", root=tmp_path)
        assert [(utterance.id, utterance.speaker) for utterance in corpus.utterances] == [
            ("a/x", "a"),
            ("b/night/x", "b"),
            ("top", None),
        ]
        assert not corpus.problems
        assert [utterance.id for utterance in load_corpus("folder", "b/night", tmp_path).utterances] == ["x"]

    def test_links_are_followed_once(self, tmp_path: Path) -> None:
        write(tmp_path / "data" / "x.wav")
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "linked").symlink_to(tmp_path / "data")
        (tmp_path / "data" / "loop").symlink_to(tmp_path / "tree")
        assert [utterance.id for utterance in load_corpus("folder", root=tmp_path / "tree").utterances] == ["linked/x"]

    def test_same_id_twice(self, tmp_path: Path) -> None:
        write(tmp_path / "x.wav")
        write(tmp_path / "x.flac")
        with pytest.raises(DatasetError, match=r"id 'x'.*x\.flac and .*x\.wav"):
            load_corpus("folder", root=tmp_path)

    @pytest.mark.parametrize("part", ["../elsewhere", "missing"])
    def test_part_outside_or_missing(self, tmp_path: Path, part: str) -> None:
        write(tmp_path / "elsewhere" / "x.wav")
        write(tmp_path / "root" / "inner" / "x.wav")
        with pytest.raises(DatasetError, match="Folders there: inner"):
            load_corpus("folder", part, tmp_path / "root")


class TestBadFiles:
    def test_every_kind_is_reported_by_name(self, tmp_path: Path) -> None:
        """Headers tell some on opening; the rest comes out when everything is decoded. Good files stay."""
        whole = write(tmp_path / "good.flac").read_bytes()
        write(tmp_path / "stereo.wav", noise(channels=2))
        write(tmp_path / "odd_rate.wav", rate=11_025)
        (tmp_path / "empty.wav").touch()
        (tmp_path / "garbage.flac").write_bytes(b"this is no audio" * 100)
        (tmp_path / "apple.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
        write(tmp_path / "short.wav", noise(0.05))
        write(tmp_path / "no_samples.wav", np.zeros(0))
        wav = write(tmp_path / "cut.wav")
        wav.write_bytes(wav.read_bytes()[:5000])
        (tmp_path / "cut.flac.part.flac").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "broken.flac").write_bytes(whole[:2000] + bytes(2000) + whole[4000:])
        write(tmp_path / "silent.flac", np.zeros(RATE))
        write(tmp_path / "nan.wav", np.where(np.arange(RATE) == 77, np.nan, 0.1), subtype="FLOAT")

        corpus = load_corpus("folder", root=tmp_path)
        opening = {problem.path.name: problem.reason for problem in corpus.problems}
        assert opening.keys() == {
            "apple.m4a", "cut.flac.part.flac", "cut.wav", "empty.wav", "garbage.flac", "no_samples.wav", "short.wav",
        }  # fmt: skip
        assert "0 bytes" in opening["empty.wav"]
        assert "50 ms" in opening["short.wav"]
        assert "cut off" in opening["cut.wav"]
        assert "no samples" in opening["no_samples.wav"]
        assert "convert" in opening["apple.m4a"]
        notes = {note.path.name: note.reason for note in corpus.notes}
        assert notes.keys() == {"stereo.wav", "odd_rate.wav"}
        assert "11025 Hz" in notes["odd_rate.wav"]

        seen: list[tuple[int, int]] = []
        decoded = {problem.path.name: problem.reason for problem in check_corpus(corpus, lambda *at: seen.append(at))}
        assert decoded.keys() - opening.keys() == {"broken.flac", "silent.flac", "nan.wav"}
        assert "silent" in decoded["silent.flac"]
        assert "1 samples are NaN" in decoded["nan.wav"]
        assert seen[-1] == (len(corpus.utterances), len(corpus.utterances))
        for name in [*opening, *notes]:
            assert name in corpus.describe()

    def test_nothing_usable(self, tmp_path: Path) -> None:
        (tmp_path / "empty.wav").touch()
        with pytest.raises(DatasetError, match=r"no usable audio.*\n.*empty\.wav"):
            load_corpus("folder", root=tmp_path)

    def test_a_stream_of_unstated_length_is_not_cut_off(self, tmp_path: Path) -> None:
        path = write(tmp_path / "stream.wav")
        data = bytearray(path.read_bytes())
        data[40:44] = b"\xff\xff\xff\xff"  # what ffmpeg writes into a pipe
        path.write_bytes(data)
        corpus = load_corpus("folder", root=tmp_path)
        assert corpus.utterances[0].frames == RATE // 2
        assert not corpus.problems


class TestReadAudio:
    @pytest.mark.parametrize("suffix", ["wav", "flac"])
    def test_segment_equals_slice(self, tmp_path: Path, suffix: str) -> None:
        path = write(tmp_path / f"x.{suffix}")
        whole, rate = read_audio(path)
        assert (whole.dtype, whole.shape, rate) == (np.float32, (RATE // 2,), RATE)
        for start, frames in ((0, 10), (4321, 1000), (RATE // 2 - 1, 1)):
            np.testing.assert_array_equal(read_audio(path, start, frames)[0], whole[start : start + frames])
        np.testing.assert_array_equal(read_audio(path, 5000)[0], whole[5000:])

    def test_stereo_is_averaged(self, tmp_path: Path) -> None:
        stereo = noise(channels=2)
        samples, _ = read_audio(write(tmp_path / "x.wav", stereo, subtype="FLOAT"))
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, stereo.mean(axis=1), atol=1e-6)

    def test_silent_segment_is_a_pause(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.wav", np.concatenate([noise(0.2), np.zeros(RATE)]))
        assert not read_audio(path, RATE // 2, 1000)[0].any()

    def test_errors_name_the_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.wav")
        with pytest.raises(AudioError, match=r"x\.wav: frames 7999 to 8001 asked for, the file has 8000"):
            read_audio(path, 7999, 2)
        with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
            read_audio(tmp_path / "gone.wav")
        with pytest.raises(ValueError, match="start=-1"):
            read_audio(path, -1)

    def test_error_survives_pickling(self) -> None:
        error = pickle.loads(pickle.dumps(AudioError("x.wav", "silent")))
        assert (error.path, error.reason, str(error)) == (Path("x.wav"), "silent", "x.wav: silent")


class TestRoots:
    def test_environment_variable(self, librispeech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVALKIT_LIBRISPEECH_ROOT", str(librispeech))
        assert len(load_corpus("librispeech").utterances) == 4
        with pytest.raises(DatasetError, match="not a folder"):
            load_corpus("librispeech", root=librispeech / "absent")  # the option wins

    @pytest.mark.parametrize("root", [None, Path("/no/such/folder")])
    def test_missing_root_names_every_way(self, root: Path | None) -> None:
        with pytest.raises(DatasetError) as caught:
            load_corpus("librispeech", "test-clean", root)
        for way in (
            "--set data.test.root=",
            "--set data.train.0.root=",
            "EVALKIT_LIBRISPEECH_ROOT",
            "evalkit data fetch librispeech --part test-clean",
        ):
            assert way in str(caught.value)

    def test_missing_and_misspelt_parts(self, librispeech: Path) -> None:
        with pytest.raises(DatasetError, match=r"Parts there: test-clean\. .*fetch librispeech --part dev-other"):
            load_corpus("librispeech", "dev-other", librispeech)
        with pytest.raises(DatasetError, match="Did you mean 'test-clean'"):
            load_corpus("librispeech", "testclean", librispeech)
        with pytest.raises(UnknownName, match="librispeech"):
            load_corpus("libri-speech")

    def test_new_dataset_is_one_module_and_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "audio" / "x.wav")
        (tmp_path / "my_speech.py").write_text(
            "from evalkit.datasets.corpus import Found, build_corpus, find_audio\n"
            "def open_corpus(root, part='all'):\n"
            "    found = [Found(path.stem, None, path) for path in find_audio(root)]\n"
            "    return build_corpus('my-speech', part, root, found)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(DATASETS._entries, "my-speech", "my_speech:open_corpus")
        monkeypatch.setenv("EVALKIT_MY_SPEECH_ROOT", str(tmp_path / "audio"))
        assert [utterance.id for utterance in load_corpus("my-speech").utterances] == ["x"]
        sys.modules.pop("my_speech", None)

    def test_every_entry_resolves(self) -> None:
        for name in DATASETS.names():
            assert callable(DATASETS.resolve(name))


def test_published_counts_and_checksums_are_well_formed() -> None:
    """A digest with a digit lost would reject a good download after hours."""
    for name, total in (("librispeech", 292_367), ("libritts", 375_086), ("ljspeech", 13_100)):
        archives = importlib.import_module(f"evalkit.datasets.{name}").ARCHIVES
        assert sum(archive.utterances for archive in archives.values()) == total
        for part, archive in archives.items():
            assert len(bytes.fromhex(archive.md5)) == 16
            assert len(bytes.fromhex(archive.sha256)) == 32
            assert archive.url.startswith("https://")
            assert part == "all" or part in archive.url


@pytest.mark.parametrize(
    ("name", "part"), [("librispeech", "test-clean"), ("libritts", "test-clean"), ("ljspeech", "all")]
)
def test_real_speech_opens_and_decodes(speech_root: Path, name: str, part: str) -> None:
    corpus = load_corpus(name, part, speech_root)
    assert "partial" in corpus.coverage
    assert not check_corpus(corpus)
