"""Which file belongs to which: spellings of names, trees, lists, formats that nobody reads, exchanged folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evalkit.datasets import DatasetError, load_corpus
from evalkit.datasets.corpus import find_audio
from evalkit.run.folders import Pairing, pair_folders
from evalkit.scoring.pairing import Catalogue, PairingError, find_by_ids, list_audio

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(4000), 16_000, format="WAV")
    return root


def pairs_of(pairing: Pairing, place: int = 0) -> dict[str, str]:
    system = pairing.systems[place]
    return {name: path.relative_to(system.folder).as_posix() for name, path in system.files.items()}


def ids(pairing: Pairing) -> list[str]:
    return [utterance.id for utterance in pairing.references]


class TestSpelling:
    def test_names_pair_in_any_form(self, tmp_path: Path) -> None:
        originals = tree(tmp_path / "o", f"{COMPOSED}.wav", f"{COMPOSED}2/x.wav", "a/x.wav")
        decoded = tree(tmp_path / "d", f"{DECOMPOSED}.wav", f"{DECOMPOSED}2/x.wav", "a/x.wav")
        pairing = pair_folders(originals, [str(decoded)])
        assert pairs_of(pairing) == {
            COMPOSED: f"{DECOMPOSED}.wav", f"{COMPOSED}2/x": f"{DECOMPOSED}2/x.wav", "a/x": "a/x.wav",
        }  # fmt: skip
        assert ids(pair_folders(decoded, [str(originals)])) == ids(pairing), "the same on every machine"

    def test_a_list_in_any_form(self, tmp_path: Path) -> None:
        originals, decoded = tree(tmp_path / "o", f"{COMPOSED}.wav"), tree(tmp_path / "d", f"{DECOMPOSED}-1.wav")
        (tmp_path / "p.csv").write_text(f"reference,estimate,speaker\n{DECOMPOSED}.wav,{COMPOSED}-1,{DECOMPOSED}\n")
        pairing = pair_folders(originals, [str(decoded)], tmp_path / "p.csv")
        assert pairs_of(pairing) == {COMPOSED: f"{DECOMPOSED}-1.wav"}
        assert pairing.references[0].speaker == COMPOSED

    def test_two_spellings_in_one_folder_are_told_apart(self, tmp_path: Path) -> None:
        originals = tree(tmp_path / "o", f"{COMPOSED}.wav")
        both = tree(tmp_path / "d", f"{COMPOSED}.wav", f"{DECOMPOSED}.wav")
        with pytest.raises(PairingError, match="one name in two spellings") as raised:
            pair_folders(originals, [str(both)])
        assert r"caf\xe9.wav" in str(raised.value)
        assert r"cafe\u0301.wav" in str(raised.value)
        with pytest.raises(DatasetError, match="two files have the id") as of_corpus:
            load_corpus("folder", "all", both)
        assert r"cafe\u0301.wav" in str(of_corpus.value)

    def test_systems_and_ids_of_corpora(self, tmp_path: Path) -> None:
        originals, decoded = tree(tmp_path / "o", "x.wav"), tree(tmp_path / DECOMPOSED, "x.wav")
        pairing = pair_folders(originals, [str(decoded), f"b={decoded}"])
        assert pairing.systems[0].name == COMPOSED
        assert pairing.baseline(DECOMPOSED) == COMPOSED
        corpus = load_corpus("folder", "all", tree(tmp_path / "c", f"{DECOMPOSED}/x.wav"))
        assert [(u.id, u.speaker) for u in corpus.utterances] == [(f"{COMPOSED}/x", COMPOSED)]

    def test_a_name_that_is_no_text(self, tmp_path: Path) -> None:
        folder = tree(tmp_path / "o", "x.wav")
        shutil.copy(folder / "x.wav", os.fsencode(folder) + b"/caf\xe9.wav")
        with pytest.raises(PairingError, match=r"caf\\udce9.wav is no UTF-8"):
            pair_folders(folder, [f"b={folder}"])
        corpus = load_corpus("folder", "all", folder)
        assert [u.id for u in corpus.utterances] == ["x"]
        assert r"caf\udce9.wav: its name is no UTF-8" in corpus.describe()


class TestTrees:
    def test_trees_that_mirror_each_other(self, tmp_path: Path) -> None:
        names = ("bdl/a0001.wav", "slt/a0001.wav", "slt/a0002.wav")
        pairing = pair_folders(tree(tmp_path / "o", *names), [str(tree(tmp_path / "d", *names, "clb/a0001.wav"))])
        assert pairs_of(pairing) == {"bdl/a0001": names[0], "slt/a0001": names[1], "a0002": names[2]}
        assert [path.name for path in pairing.unpaired[tmp_path / "d"]] == ["a0001.wav"]

    def test_one_that_lacks_a_file_of_the_tree(self, tmp_path: Path) -> None:
        originals = tree(tmp_path / "o", "bdl/a0001.wav", "slt/a0001.wav")
        pairing = pair_folders(originals, [str(tree(tmp_path / "d", "bdl/a0001.wav"))])
        assert pairs_of(pairing) == {"bdl/a0001": "bdl/a0001.wav"}
        assert ids(pairing) == ["bdl/a0001", "slt/a0001"]

    def test_originals_in_folders_and_decoded_flat(self, tmp_path: Path) -> None:
        originals = tree(tmp_path / "o", "bdl/a0001.wav", "slt/a0002.wav")
        pairing = pair_folders(originals, [str(tree(tmp_path / "d", "a0001.wav", "a0002.wav"))])
        assert pairs_of(pairing) == {"a0001": "a0001.wav", "a0002": "a0002.wav"}

    @pytest.mark.parametrize(("originals", "decoded"), [
        (("bdl/a1.wav", "slt/a1.wav"), ("a1.wav",)),
        (("bdl/a1.wav", "slt/a1.wav"), ("x/a1.wav", "y/a1.wav")),
        (("a1.wav",), ("bdl/a1.wav", "slt/a1.wav")),
    ])  # fmt: skip
    def test_what_only_a_list_can_tell(self, tmp_path: Path, originals: tuple[str], decoded: tuple[str]) -> None:
        with pytest.raises(PairingError, match=r"bdl/a1.wav and slt/a1.wav have one name; give --pairs"):
            pair_folders(tree(tmp_path / "o", *originals), [str(tree(tmp_path / "d", *decoded))])

    def test_a_corpus_of_utterances(self, tmp_path: Path) -> None:
        decoded = tree(tmp_path / "d", "bdl/a1.wav", f"slt/{DECOMPOSED}.wav", "b2.wav")
        catalogue = Catalogue(decoded, list_audio(decoded, []).files)
        stems = {"bdl/a1": "a1", "slt/a1": "a1", f"slt/{COMPOSED}": DECOMPOSED, "x/b2": "b2", "gone": "gone"}
        found = find_by_ids(stems, catalogue)
        assert {name: path.name for name, path in found.items()} == {
            "bdl/a1": "a1.wav", f"slt/{COMPOSED}": f"{DECOMPOSED}.wav", "x/b2": "b2.wav",
        }  # fmt: skip
        with pytest.raises(PairingError, match=r"b2\.wav may belong to x/b2 or y/b2"):
            find_by_ids({"x/b2": "b2", "y/b2": "b2"}, catalogue)


class TestLists:
    def test_every_way_to_write_a_path(self, tmp_path: Path) -> None:
        originals = tree(tmp_path / "o", *(f"s/x{number}.wav" for number in range(6)))
        decoded = tree(tmp_path / "lists" / "d", *(f"y{number}.wav" for number in range(6)))
        lines = [
            " reference ; estimate",
            f"{originals / 's/x0.wav'};{decoded / 'y0.wav'}",
            "./s/x1.wav;./y1.wav",
            "../o/s/x2.wav;d/y2.wav",
            "  x3  ;  y3.wav ",
            r"s\x4.wav;y4",
            f"{originals / 's/../s/x5'};./d/y5",
            "",
        ]
        for separator in ";,\t":
            text = "\ufeff" + "\r\n".join(lines).replace(";", separator)
            (tmp_path / "lists" / "p.csv").write_text(text, encoding="utf-8", newline="")
            pairing = pair_folders(originals, [str(decoded)], tmp_path / "lists" / "p.csv")
            assert pairs_of(pairing) == {f"x{number}": f"y{number}.wav" for number in range(6)}

    def test_a_row_without_file_is_an_utterance(self, tmp_path: Path) -> None:
        originals, decoded = tree(tmp_path / "o", "x.wav", "y.wav"), tree(tmp_path / "d", "x.wav", "z.wav")
        (tmp_path / "p.csv").write_text("reference,estimate\nx,x\ny,gone.wav\nsub/lost.wav,z\n/no/such.wav,nor\n")
        pairing = pair_folders(originals, [str(decoded)], tmp_path / "p.csv")
        assert ids(pairing) == ["sub/lost", "x", "such", "y"]
        assert pairs_of(pairing) == {"x": "x.wav", "sub/lost": "z.wav"}

    @pytest.mark.parametrize(("rows", "words"), [
        ("x,x\nx.wav,y", "line 3: x.wav for the second time, first in line 2"),
        ("x,x\ny,x.wav", "line 3: x.wav for the second time, first in line 2"),
        ("gone,x\ngone.wav,y", "line 3: gone.wav for the second time, first in line 2"),
        ("a/x.wav,x\nb/x.wav,y\nz.wav,z", "line 4: reference: 'z.wav' may be b/z.wav or a/z.wav"),
        ("x,x,", "line 2: 3 values, the first line names 2 columns"),
        ("OUTSIDE,x", "outside.wav is not in"),
        ("x,OUTSIDE", "outside.wav is not in"),
    ])  # fmt: skip
    def test_refused(self, tmp_path: Path, rows: str, words: str) -> None:
        nested = ("a/x.wav", "b/x.wav", "b/z.wav", "a/z.wav") if "a/x" in rows else ("x.wav", "y.wav")
        originals, decoded = tree(tmp_path / "o", *nested), tree(tmp_path / "d", "x.wav", "y.wav", "z.wav")
        outside = tree(tmp_path / "e", "outside.wav") / "outside.wav"
        (tmp_path / "p.csv").write_text("reference,estimate\n" + rows.replace("OUTSIDE", str(outside)))
        with pytest.raises(PairingError) as raised:
            pair_folders(originals, [str(decoded)], tmp_path / "p.csv")
        shown = str(raised.value)
        assert words in shown or words.replace("b/z.wav or a/z.wav", "a/z.wav or b/z.wav") in shown

    def test_beside_the_list_and_below_the_folder(self, tmp_path: Path) -> None:
        originals, decoded = tree(tmp_path / "o", "x.wav", "sub/x.wav"), tree(tmp_path / "d", "x.wav")
        (originals / "sub" / "p.csv").write_text("reference,estimate\nx.wav,x.wav\n")
        with pytest.raises(PairingError, match=r"'x.wav' may be x.wav or sub/x.wav"):
            pair_folders(originals, [str(decoded)], originals / "sub" / "p.csv")


class TestFormats:
    @pytest.mark.parametrize(("suffix", "way"), [
        ("m4a", "ffmpeg -i"), ("mp4", "ffmpeg -i"), ("aac", "ffmpeg -i"), ("wma", "ffmpeg -i"), ("webm", "ffmpeg -i"),
        ("amr", "ffmpeg -i"), ("sph", "sph2pipe"), ("raw", "sox -t raw"), ("PCM", "sox -t raw"),
    ])  # fmt: skip
    def test_a_folder_of_what_is_not_read(self, tmp_path: Path, suffix: str, way: str) -> None:
        originals, decoded = tree(tmp_path / "o", "x.wav"), tmp_path / "d"
        decoded.mkdir()
        (decoded / f"x.{suffix}").write_bytes(b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\n")
        with pytest.raises(PairingError, match=rf"libsndfile cannot read \.{suffix.lower()} files; convert it: {way}"):
            pair_folders(originals, [str(decoded)])
        with pytest.raises(DatasetError, match=way):
            load_corpus("folder", "all", decoded)

    def test_beside_what_is_read(self, tmp_path: Path) -> None:
        originals, decoded = tree(tmp_path / "o", "x.wav", "y.wav"), tree(tmp_path / "d", "x.wav")
        for name in ("x.m4a", "y.m4a"):
            (decoded / name).write_bytes(b"\0\0\0\x20ftypM4A ")
        pairing = pair_folders(originals, [str(decoded)])
        assert pairs_of(pairing) == {"x": "x.wav", "y": "y.m4a"}, "the second fails by name when it is read"
        assert [path.name for path in pairing.ignored[decoded]] == ["x.m4a"]

    def test_what_libsndfile_reads_is_found(self, tmp_path: Path) -> None:
        samples = 0.1 * np.random.default_rng(0).standard_normal(4000)
        formats = {
            "a.WAV": "WAV", "b.Flac": "FLAC", "c.oga": "OGG", "d.aif": "AIFF", "e.aifc": "AIFF", "f.caf": "CAF",
            "g.w64": "W64", "h.rf64": "RF64", "i.snd": "AU", "j.sph": "NIST", "k.bwf": "WAV",
        }  # fmt: skip
        for name, kind in formats.items():
            soundfile.write(tmp_path / name, samples, 16_000, format=kind)
        tree(tmp_path, "._a.wav", ".hidden/b.wav")
        assert [u.path.name for u in load_corpus("folder", "all", tmp_path).utterances] == sorted(formats)


class TestFolders:
    def test_links_that_lead_around(self, tmp_path: Path) -> None:
        originals, decoded = tree(tmp_path / "o", "s/x.wav"), tree(tmp_path / "o" / "d", "x.wav")
        (originals / "s" / "again").symlink_to(originals)
        (originals / "s" / "loop.wav").symlink_to("loop.wav")
        pairing = pair_folders(originals, [str(decoded)])
        assert pairs_of(pairing) == {"x": "x.wav"}
        (tmp_path / "around").symlink_to("around")
        with pytest.raises(PairingError, match="around: no such folder"):
            pair_folders(originals, [str(tmp_path / "around")])

    def test_a_folder_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        originals, decoded = tree(tmp_path / "o", "x.wav", "locked/y.wav"), tree(tmp_path / "d", "x.wav")
        scan = os.scandir

        def locked(path: str | os.PathLike[str]) -> object:  # root may read everything
            if os.fspath(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", locked)
        with pytest.raises(PairingError, match="locked: cannot be read: Permission denied"):
            pair_folders(originals, [str(decoded)])
        with pytest.raises(PermissionError):
            list(find_audio(originals))

    def test_the_originals_as_a_system(self, tmp_path: Path) -> None:
        originals = tree(tmp_path / "o", "x.wav")
        assert pair_folders(originals, [f"same={originals}"]).notes == (
            "same is the folder of the originals itself: a known answer, no codec.",
        )


class TestExchanged:
    @pytest.mark.parametrize(("first", "second", "words"), [
        ("decoded/a", "originals", "decoded/a is given as the originals and"),
        ("Reconstructions", "ground_truth", "is given as the originals and"),
        ("a", "LibriSpeech/61/70968", "holds a corpus (61-70968.trans.txt) and is given as decoded audio"),
        ("runs/x/audio/61-1", "speech", "holds the audio of the run"),
    ])  # fmt: skip
    def test_noticed(self, tmp_path: Path, first: str, second: str, words: str) -> None:
        decoded, originals = tree(tmp_path / first, "x.wav"), tree(tmp_path / second, "x.wav")
        if "LibriSpeech" in second:
            (originals / "61-70968.trans.txt").write_text("61-70968-0000 HE")
        if "runs" in first:
            for name in ("run.json", "journal.jsonl"):
                (tmp_path / "runs" / "x" / name).write_text("{}")
        with pytest.raises(PairingError) as raised:
            pair_folders(decoded, [str(originals)])
        assert words in str(raised.value)
        assert "--as-given" in str(raised.value)
        pair_folders(decoded, [str(originals)], as_given=True)
        pair_folders(originals, [str(decoded)])

    @pytest.mark.parametrize(("first", "second"), [
        ("data/originals", "decoded/original"), ("decoded/x/originals", "decoded/x/wav"), ("speech", "reference"),
        ("decoded/originals", "originals/decoded"), ("decoded", "codec"),
    ])  # fmt: skip
    def test_no_false_alarm(self, tmp_path: Path, first: str, second: str) -> None:
        pair_folders(tree(tmp_path / first, "x.wav"), [str(tree(tmp_path / second, "x.wav"))])
