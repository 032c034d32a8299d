"""Runs that the gate refuses to compare, with the reason, and utterances that are missing, extra or swapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from evalkit.gate import GateError, Verdict, compare_runs
from evalkit.run.saved_run import SavedRun, load_run
from tests.gate_runs import DATASET, IDS, base_scores, changed, gate, make_run, noisy, write_run

SCORES = base_scores()
BASELINE = make_run(SCORES)


def compare(
    candidate: SavedRun, baseline: SavedRun = BASELINE, systems: tuple[str, ...] = (), **settings: Any
) -> Verdict:
    return compare_runs(baseline, candidate, gate(**settings), systems)


def reason(verdict: Verdict) -> str:
    assert (verdict.decision, verdict.exit_status) == ("not comparable", 2)
    assert verdict.comparisons == ()
    (only,) = verdict.reasons
    return only


def renamed(run: SavedRun, names: dict[str, str]) -> SavedRun:
    """The run with the audio of some utterances under other ids."""
    frames = {name: getattr(run, name).replace({"utterance": names}) for name in ("utterances", "signals")}
    return replace(run, **frames)


def without(run: SavedRun, ids: list[str]) -> SavedRun:
    frames = {n: (f := getattr(run, n))[~f["utterance"].isin(ids)] for n in ("utterances", "signals")}
    return replace(run, **frames)


SWAP = {"u03": "u07", "u07": "u03"}


class TestConditions:
    def test_other_protocol(self):
        assert reason(compare(make_run(SCORES, protocol="paper"))) == (
            "other protocol: the baseline was scored under strict, the candidate under paper"
        )

    @pytest.mark.parametrize(
        ("settings", "told"),
        [({"crop": "longer"}, "crop is shorter in"), ({"rates": {"pesq": 8000}}, "pesq at 16000 Hz in the baseline")],
    )
    def test_other_settings_of_one_protocol(self, settings, told):
        def run(**own: Any) -> SavedRun:
            protocol = {"label": "strict", "crop": "shorter", "rates": {"pesq": 16000}} | own
            return replace(BASELINE, description=BASELINE.description | {"protocol": protocol})

        assert told in reason(compare(run(**settings), run()))

    def test_other_version_of_a_metric(self):
        of_pesq = BASELINE.utterances["metric"] == "pesq"
        candidate = changed(BASELINE, version=BASELINE.utterances["version"].mask(of_pesq, "2"))
        assert reason(compare(candidate)).startswith("other version of pesq: 1 in the baseline, 2 in the candidate")
        assert compare(candidate, metrics=["stoi"]).exit_status == 0

    def test_other_data_set(self):
        candidate = replace(changed(BASELINE, dataset="vctk/all"), signals=BASELINE.signals.iloc[:0])
        assert reason(compare(candidate)).startswith(
            "other data sets: the baseline was scored on librispeech/test-clean"
        )

    def test_the_same_files_under_another_name_of_the_folder_are_the_same_data_set(self):
        candidate = changed(BASELINE, dataset="elsewhere/originals")
        candidate = replace(candidate, signals=candidate.signals.assign(dataset="elsewhere/originals"))
        verdict = compare(candidate)
        assert verdict.exit_status == 0
        assert any("the same files" in note for note in verdict.notes)
        assert {c.dataset for c in verdict.comparisons} == {DATASET}

    def test_too_few_utterances(self):
        few = without(BASELINE, IDS[9:])
        assert "has 9 utterances in both runs" in compare(few, few).reasons[0]
        assert compare(few, few, min_utterances=9).exit_status == 0

    def test_a_known_answer_that_moved(self):
        frame = BASELINE.utterances
        row = (frame["system"] == "noise-10db") & (frame["metric"] == "stoi") & (frame["utterance"] == "u04")
        told = reason(compare(changed(BASELINE, value=frame["value"].mask(row, 0.50001))))
        assert "noise-10db moved by stoi on 1 of 50 utterances, most u04: 0.5 -> 0.50001" in told
        assert compare(changed(BASELINE, value=frame["value"].mask(row, 0.5 + 1e-8))).exit_status == 0
        failed = changed(BASELINE, value=frame["value"].mask(row), status=frame["status"].mask(row, "failed"))
        assert "most u04: 0.5 -> failed" in reason(compare(failed))

    def test_a_metric_that_one_run_lacks_only_if_it_is_required(self):
        lost = BASELINE.utterances["metric"] == "pesq"
        frame = BASELINE.utterances
        unavailable = changed(
            BASELINE, value=frame["value"].mask(lost), status=frame["status"].mask(lost, "unavailable"),
            detail=frame["detail"].mask(lost, "no weights"),
        )  # fmt: skip
        absent = replace(BASELINE, utterances=frame[~lost])
        for candidate, why in ((unavailable, "unavailable (no weights)"), (absent, "not scored")):
            verdict = compare(candidate)
            assert verdict.exit_status == 0
            assert f"pesq is not compared: ok in the baseline, {why} in the candidate" in verdict.notes
            assert "it is required" in reason(compare(candidate, require=["pesq"]))
        assert compare(unavailable, unavailable).exit_status == 0
        assert compare(unavailable, unavailable, require=["pesq"]).exit_status == 2

    def test_a_system_that_could_not_run(self):
        frame = BASELINE.utterances
        lost = frame["system"] == "fsq"
        candidate = changed(
            BASELINE, value=frame["value"].mask(lost), status=frame["status"].mask(lost, "unavailable"),
            detail=frame["detail"].mask(lost, "no weights"),
        )  # fmt: skip
        assert "fsq could not run in the candidate: unavailable (no weights)" in reason(compare(candidate))
        assert compare(candidate, systems=("rhombic",)).exit_status == 0

    @pytest.mark.parametrize(
        ("damage", "told"),
        [
            (lambda frame: frame.drop(columns="speaker"), "lacks the column speaker"),
            (lambda frame: frame.drop(columns="dataset"), "lacks the column dataset"),
            (lambda frame: frame.iloc[:0], "holds no scores"),
            (lambda frame: pd.concat([frame, frame.tail(1)]), "was scored twice by si_sdr"),
            (lambda frame: frame.replace({"system": {"fsq": "ghost"}}), "ghost has scores and no row"),
        ],
    )
    def test_rows_that_are_not_of_a_run(self, damage: Callable[[pd.DataFrame], pd.DataFrame], told: str):
        assert told in reason(compare(replace(BASELINE, utterances=damage(BASELINE.utterances))))

    @pytest.mark.parametrize(("frame", "column"), [("systems", "kind"), ("signals", "estimate")])
    def test_other_frames_that_are_not_of_a_run(self, frame: str, column: str):
        damaged = {frame: getattr(BASELINE, frame).drop(columns=column)}
        assert f"{frame}.parquet lacks the column {column}" in reason(compare(replace(BASELINE, **damaged)))


class TestSystems:
    def run_of(self, **names: str) -> SavedRun:
        """SYSTEM=NAME: the scores of a system under a name."""
        return make_run({(name, m): v for (s, m), v in SCORES.items() for old, name in names.items() if s == old})

    def test_one_each_pair_under_different_names(self):
        verdict = compare(self.run_of(fsq="after"), self.run_of(fsq="before"))
        assert {(c.system, c.candidate) for c in verdict.comparisons} == {("before", "after")}
        assert "after is compared with before: there is no other" in verdict.notes

    def test_what_built_in_experiments_call_otherwise_now_pairs_with_its_former_name(self):
        before, after = (self.run_of(fsq=name, rhombic="rhombic") for name in ("null", "unquantized"))
        verdict = compare(after, before)
        assert verdict.decision == "same"
        assert {(c.system, c.candidate) for c in verdict.comparisons} == {
            ("null", "unquantized"), ("rhombic", "rhombic")
        }  # fmt: skip

    def test_several_without_a_common_name_are_refused(self):
        told = reason(compare(self.run_of(fsq="a", rhombic="b")))
        assert "the baseline has rhombic, fsq; the candidate has b, a" in told
        assert compare(self.run_of(fsq="a", rhombic="b"), systems=("fsq=a", "rhombic=b")).exit_status == 0

    def test_a_system_missing_from_the_candidate_is_refused_and_a_new_one_told(self):
        assert "the candidate lacks fsq of the baseline" in reason(compare(self.run_of(rhombic="rhombic")))
        assert compare(self.run_of(rhombic="rhombic"), systems=("rhombic",)).exit_status == 0
        verdict = compare(BASELINE, self.run_of(rhombic="rhombic"))
        assert verdict.exit_status == 0
        assert "not compared, the baseline does not have them: fsq" in verdict.notes

    def test_names_may_hold_an_equals_sign(self):
        runs = self.run_of(fsq="a=b"), self.run_of(fsq="a=b", rhombic="c=d")
        assert {c.candidate for c in compare(*runs, systems=("a=b",)).comparisons} == {"a=b"}
        assert {c.candidate for c in compare(*runs[::-1], systems=("a=b=c=d",)).comparisons} == {"c=d"}

    @pytest.mark.parametrize(
        ("asked", "told"), [("fsk", "baseline.*'fsk'.*Did you mean 'fsq'"), ("fsq=x", "candidate.*'x'")]
    )
    def test_an_unknown_one_is_a_mistake(self, asked, told):
        with pytest.raises(GateError, match=told):
            compare(BASELINE, systems=(asked,))

    def test_known_answers_alone_are_nothing_to_compare(self):
        anchors = replace(BASELINE, utterances=BASELINE.utterances[BASELINE.utterances["system"] == "ground-truth"])
        assert "known-answer systems only" in reason(compare(anchors, anchors))


class TestUtterances:
    def test_missing_ones_are_named(self):
        assert reason(compare(without(BASELINE, ["u01", "u05"]))) == (
            f"{DATASET}: 2 utterances missing from the candidate: u01, u05"
        )

    def test_extra_ones_are_named_up_to_ten(self):
        told = reason(compare(BASELINE, without(BASELINE, IDS[:12])))
        assert told == (f"{DATASET}: 12 utterances extra in the candidate: {', '.join(IDS[:10])} and 2 more")

    def test_are_left_out_where_the_gate_allows_it(self):
        candidate = without(BASELINE, ["u01", "u05"])
        assert compare(candidate, allow_missing=1).exit_status == 2
        for settings in ({"allow_missing": 2}, {"intersect": True}):
            verdict = compare(candidate, **settings)
            assert verdict.exit_status == 0
            assert {c.n for c in verdict.comparisons} == {48}
            assert any("u01, u05" in note for note in verdict.notes)

    def test_one_name_in_two_spellings_is_one(self):
        composed, decomposed = (renamed(BASELINE, {"u01": name}) for name in ("caf\u00e9", "cafe\u0301"))
        verdict = compare(decomposed, composed)
        assert verdict.reasons == ()
        assert {c.n for c in verdict.comparisons} == {len(set(BASELINE.utterances["utterance"]))}

    def test_one_under_another_name_is_recognized_by_its_audio(self):
        verdict = compare(renamed(BASELINE, {"u01": "x01"}))
        assert len(verdict.reasons) == 2
        assert "(the same audio under another name: u01 is x01)" in verdict.reasons[0]

    def test_of_one_system_only(self):
        frame = BASELINE.utterances
        lost = (frame["system"] == "fsq") & (frame["utterance"] == "u09")
        assert "1 utterance of fsq missing" in reason(compare(replace(BASELINE, utterances=frame[~lost])))


class TestSwapped:
    def test_references(self):
        assert reason(compare(renamed(BASELINE, SWAP))) == f"{DATASET}: u03 and u07 are swapped (reference audio)"

    def test_references_in_a_longer_turn(self):
        verdict = compare(renamed(BASELINE, {"u01": "u02", "u02": "u03", "u03": "u01"}))
        assert verdict.reasons == tuple(
            f"{DATASET}: {new} is {old} of the baseline (reference audio)"
            for old, new in (("u03", "u01"), ("u01", "u02"), ("u02", "u03"))
        )

    def test_decoded_files(self):
        baseline = make_run(SCORES, kind="folder")
        # Scored again, against their own references: other scores, the same files.
        candidate = make_run(noisy(SCORES, 1), kind="folder")
        signals = candidate.signals
        rows = signals["system"] == "fsq"
        swapped = signals["estimate"].mask(
            rows, signals["estimate"].replace({f"fsq {a}": f"fsq {b}" for a, b in SWAP.items()})
        )
        told = reason(compare(replace(candidate, signals=signals.assign(estimate=swapped)), baseline))
        assert told == f"{DATASET}: u03 and u07 are swapped (decoded audio of fsq)"

    def test_scores_of_runs_without_digests(self):
        old = make_run(SCORES, digests=False)
        scores = {key: values.copy() for key, values in SCORES.items()}
        for metric in ("pesq", "stoi", "estoi", "mel_distance", "vuv_f1", "si_sdr"):
            scores["fsq", metric][[3, 7]] = scores["fsq", metric][[7, 3]]
        verdict = compare(make_run(scores, digests=False), old)
        assert reason(verdict) == f"{DATASET}: u03 and u07 are swapped (scores of fsq)"
        scores["fsq", "pesq"][3] += 1e-6
        assert reason(compare(make_run(scores, digests=False), old)) == (
            f"{DATASET}: u07 is u03 of the baseline (scores of fsq)"
        )
        scores["fsq", "pesq"][7] += 1e-6
        assert compare(make_run(scores, digests=False), old).exit_status == 0

    def test_equal_scores_at_the_end_of_a_scale_are_no_swap(self):
        top = {key: values.clip(max=values.min()) for key, values in SCORES.items()}
        other = {key: values.copy() for key, values in top.items()}
        top["fsq", "stoi"][3], other["fsq", "stoi"][7] = 1.0, 1.0
        assert not any("swapped" in line for line in compare(make_run(other), make_run(top)).reasons)


class TestReferences:
    def test_other_audio_under_the_same_id(self):
        signals = BASELINE.signals
        other = signals["reference_sha256"].mask(signals["utterance"] == "u08", "other")
        told = reason(compare(replace(BASELINE, signals=signals.assign(reference_sha256=other))))
        assert told == f"{DATASET}: 1 utterance with other reference audio under the same id: u08"

    def test_is_told_where_it_cannot_be_verified(self):
        old = make_run(SCORES, digests=False)
        assert any("not verified" in note for note in compare(old).notes)

    @pytest.mark.parametrize(("digest", "status"), [("a", 0), ("b", 2)])
    def test_older_runs_have_one_digest_of_all_files(self, digest, status):
        def run(files: str) -> SavedRun:
            test = {"dataset": DATASET, "files_sha256": files}
            old = make_run(SCORES, digests=False)
            return replace(old, description=old.description | {"test": test})

        verdict = compare(run(digest), run("a"))
        assert verdict.exit_status == status
        assert not any("not verified" in note for note in verdict.notes)


def test_a_run_read_from_its_files_is_compared_alike(tmp_path):
    candidate = make_run(noisy(SCORES, 2))
    read = [load_run(write_run(run, tmp_path / name)) for run, name in ((BASELINE, "a"), (candidate, "b"))]
    assert compare_runs(*read, gate()).comparisons == compare(candidate).comparisons
