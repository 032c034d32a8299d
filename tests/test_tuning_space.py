"""What `evalkit tune` searches, and its audio in parts."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path

import pytest

from evalkit.datasets import Utterance, load_corpus
from evalkit.tuning.space import TuneError, baseline_choice, search_space
from evalkit.tuning.split import HELD_OUT, SEARCH, TRAIN, split_audio, split_test_set
from q2d2.bottleneck import build_bottleneck
from q2d2.tilings import TILINGS
from tests import small_search


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_search.recordings(tmp_path_factory)


def speech(speaker: str | None, name: str, seconds: float = 1.0) -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), speaker, round(16_000 * seconds), 16_000)


class TestSpace:
    def test_every_point_has_the_rate_that_its_bottleneck_has_and_none_is_there_twice(self):
        space = search_space(20)
        for choice in space.choices:
            options = dict(choice.bottleneck)
            built = build_bottleneck(options.pop("name"), 16, **options)
            assert built.bits_per_frame == pytest.approx(choice.bits_per_frame)
            assert abs(choice.bits_per_frame - 20) <= 0.5
        assert len({json.dumps(choice.bottleneck) for choice in space.choices}) == len(space.choices)
        assert {choice.family for choice in space.choices} >= {*TILINGS, "a2", "d4", "e8", "fsq"}

    def test_what_reaches_no_such_rate_is_named(self):
        space = search_space(20)
        assert space.left_out["rhombic"] == (2, 12)
        everything = {(family, channels) for family, each in space.left_out.items() for channels in each}
        assert not everything & set(space.by_key)
        assert len(everything) + len(space.choices) == 40

    def test_the_baseline_is_the_published_configuration_at_its_own_rate(self):
        assert baseline_choice(19.23).bottleneck == {"name": "q2d2", "tiling": "rhombic", "levels": [7] * 6}
        assert baseline_choice(8).channels == 4  # three pairs have 8.9 bits at least

    @pytest.mark.parametrize(
        ("target", "families", "told"),
        [(math.nan, None, "positive"), (0, None, "positive"), (20, ["fqs"], "'fsq'"), (1, ["d4"], "out of reach of d4"),
         (20, [], "none given"), (20, ["rvq"], "not searched")],
    )  # fmt: skip
    def test_refuses(self, target, families, told):
        with pytest.raises(TuneError, match=told):
            search_space(target, families)


class TestSplit:
    def test_no_speaker_is_in_two_parts_and_nothing_is_lost(self, recordings, tmp_path):
        corpus = load_corpus("folder", "all", recordings)
        split = split_audio(corpus)
        assert split.by_speaker
        speakers = [{each.speaker for _, each in entries} for entries in split.parts.values()]
        assert sum(map(len, speakers)) == len(set.union(*speakers)) == 6
        split.write(tmp_path)
        opened = {part: load_corpus("folder", part, tmp_path) for part in (TRAIN, SEARCH, HELD_OUT)}
        assert sorted(u.id for part in opened.values() for u in part.utterances) == [u.id for u in corpus.utterances]
        for part, found in opened.items():
            assert {(u.id, u.speaker) for u in found.utterances} == {(u.id, u.speaker) for _, u in split.parts[part]}

    def test_does_not_depend_on_the_order_and_has_about_its_shares(self):
        clips = [speech(f"s{n % 20}", f"s{n % 20}/{n}", 1 + n % 5) for n in range(200)]
        corpus = dataclasses.replace(load_corpus("sample", "test"), utterances=clips)
        split = split_audio(corpus)
        random.Random(0).shuffle(clips)
        assert split_audio(dataclasses.replace(corpus, utterances=clips)).digests() == split.digests()
        total = sum(each.seconds for each in clips)
        for part, share in ((TRAIN, 0.6), (SEARCH, 0.2), (HELD_OUT, 0.2)):
            assert sum(u.seconds for _, u in split.parts[part]) / total == pytest.approx(share, abs=0.06)

    def test_one_large_speaker_is_trained_on(self):
        clips = [speech("much", f"much/{n}", 100) for n in range(4)]
        clips += [speech(f"s{n}", f"s{n}/{m}") for n in range(2) for m in range(2)]
        split = split_audio(dataclasses.replace(load_corpus("sample", "test"), utterances=clips))
        assert split.by_speaker
        assert {u.speaker for _, u in split.parts[TRAIN]} == {"much"}

    @pytest.mark.parametrize("speaker", [None, "one"])
    def test_by_file_where_speakers_are_few_or_not_known(self, speaker):
        clips = [speech(speaker, f"a/{n}" if speaker is None else f"one/{n}") for n in range(6)]
        split = split_audio(dataclasses.replace(load_corpus("sample", "test"), utterances=clips))
        assert not split.by_speaker
        assert [len(entries) for entries in split.parts.values()] == [2, 2, 2]
        paths = [path for entries in split.parts.values() for path, _ in entries]
        assert all(("/" in path) == (speaker is not None) for path in paths)  # dataset `folder` sees no speaker either

    def test_a_test_set_is_halved(self):
        corpus = load_corpus("sample", "test")
        split = split_test_set(corpus, corpus.utterances)
        assert [(part, len(entries)) for part, entries in split.parts.items()] == [(SEARCH, 6), (HELD_OUT, 6)]
        assert {path.split("/")[0] for path, _ in split.parts[SEARCH]} <= set(corpus.speakers)

    def test_too_little_audio(self):
        clips = [speech(f"s{n}", f"s{n}/a") for n in range(5)]
        with pytest.raises(TuneError, match="5 usable files cannot make 3 parts"):
            split_audio(dataclasses.replace(load_corpus("sample", "test"), utterances=clips))

    def test_links_that_are_there_stay_and_others_are_mended(self, recordings, tmp_path):
        split = split_audio(load_corpus("folder", "all", recordings))
        split.write(tmp_path)
        links = sorted(path for path in tmp_path.rglob("*") if path.is_symlink())
        before = [link.lstat().st_ino for link in links]
        split.write(tmp_path)
        assert [link.lstat().st_ino for link in links] == before
        links[0].unlink()
        links[0].symlink_to("elsewhere")
        split.write(tmp_path)
        assert links[0].is_file()
