"""The gate's decisions: what is a regression, what is not, and that noise is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evalkit.gate import Comparison, GateError, Verdict, compare_runs
from tests.gate_runs import HARDWARE, IDS, METRICS, base_scores, changed, gate, make_run, noisy, uneven

SCORES = base_scores()
BASELINE = make_run(SCORES)
# Coded systems, their rates and speed.
CODED = {
    "bits_per_frame": 19.25, "utilization": 0.95, "entropy": 17.0, "rtf_encode": 0.01, "rtf_decode": 0.02,
    "rtf_detail": "batch 1",
}  # fmt: skip


def shifted(metric: str, by: float) -> Verdict:
    """The verdict on a candidate that differs in one metric of fsq by `by`, a little unevenly."""
    scores = SCORES | {("fsq", metric): SCORES["fsq", metric] + uneven(by)}
    return compare_runs(BASELINE, make_run(scores), gate())


def one(verdict: Verdict, metric: str, system: str = "fsq") -> Comparison:
    (found,) = (c for c in verdict.comparisons if (c.system, c.metric) == (system, metric))
    return found


def coded(system: str = "fsq", hardware: dict | None = None, **columns: object):
    run = make_run(SCORES, systems={name: CODED | (columns if name == system else {}) for name in ("rhombic", "fsq")})
    return replace(run, description=run.description | {"hardware": hardware or HARDWARE})


class TestDifferences:
    def test_an_equal_candidate_passes_whatever_the_gate(self):
        for settings in ({}, {"thresholds": {}}, {"alpha": 0.4}, {"exact": {"metrics": list(METRICS), "tolerance": 0}}):
            verdict = compare_runs(BASELINE, make_run(SCORES), gate(**settings))
            assert (verdict.decision, verdict.exit_status) == ("same", 0)
            assert {c.outcome for c in verdict.comparisons} == {"equal"}
            assert len(verdict.comparisons) == 2 * len(METRICS)

    def test_order_of_rows_does_not_matter(self):
        shuffled = replace(BASELINE, utterances=BASELINE.utterances.sample(frac=1, random_state=1))
        candidate = make_run(noisy(SCORES, 3))
        found = [compare_runs(run, candidate, gate()) for run in (BASELINE, shuffled)]
        by_name = [{(c.system, c.metric): c for c in verdict.comparisons} for verdict in found]
        assert by_name[0] == by_name[1]

    def test_worse_beyond_threshold_is_a_regression(self):
        verdict = shifted("pesq", -0.1)
        assert (verdict.decision, verdict.exit_status) == ("regression", 1)
        (finding,) = verdict.findings
        assert (finding.system, finding.metric, finding.kind) == ("fsq", "pesq", "difference")
        found = one(verdict, "pesq")
        assert found.difference == pytest.approx(-0.1, rel=0.01)
        assert found.low < found.difference < found.high < 0
        assert found.candidate_mean - found.baseline_mean == pytest.approx(found.difference)
        assert (found.n, found.units, found.unit) == (50, 12, "speakers")
        assert "[" in finding.text
        assert {c.outcome for c in verdict.comparisons if c is not found} == {"equal"}

    def test_lower_is_better_for_a_distance(self):
        assert shifted("mel_distance", 0.05).decision == "regression"
        verdict = shifted("mel_distance", -0.05)
        assert (verdict.decision, verdict.exit_status) == ("better", 0)
        assert one(verdict, "mel_distance").outcome == "improvement"

    def test_sure_but_small_has_no_verdict(self):
        verdict = shifted("pesq", -0.049)
        assert verdict.exit_status == 0
        assert one(verdict, "pesq").outcome == "below threshold"
        assert shifted("pesq", -0.051).exit_status == 1

    def test_large_but_not_sure_has_no_verdict(self):
        scores = dict(SCORES)
        scores["fsq", "pesq"] = scores["fsq", "pesq"].copy()
        scores["fsq", "pesq"][0] -= 5.0
        verdict = compare_runs(BASELINE, make_run(scores), gate())
        assert verdict.exit_status == 0
        found = one(verdict, "pesq")
        assert found.outcome == "not significant"
        assert found.difference < -found.threshold

    def test_one_regression_decides_among_improvements(self):
        scores = {key: values + uneven(0.2) for key, values in SCORES.items() if key[1] != "mel_distance"}
        scores |= {key: values for key, values in SCORES.items() if key[1] == "mel_distance"}
        scores["fsq", "pesq"] = SCORES["fsq", "pesq"] - uneven(0.1)
        verdict = compare_runs(BASELINE, make_run(scores), gate())
        assert verdict.decision == "regression"
        assert len(verdict.found("improvement")) == 7  # si_sdr's 0.2 dB are below its threshold
        assert [f.outcome for f in verdict.findings] == ["regression"] + 7 * ["improvement"]

    def test_p_is_corrected_over_all_metrics_and_systems(self):
        candidate = make_run(noisy(SCORES, 5))
        everything = compare_runs(BASELINE, candidate, gate())
        alone = compare_runs(BASELINE, candidate, gate(metrics=["pesq"]), ["fsq"])
        (single,) = alone.comparisons
        assert single.p == single.p_holm == one(everything, "pesq").p
        smallest = min(everything.comparisons, key=lambda c: c.p)
        assert smallest.p_holm == pytest.approx(min(1, 12 * smallest.p))

    def test_rounding_is_no_difference_even_without_threshold(self):
        scores = {key: values * (1 + 1e-12) for key, values in SCORES.items()}
        verdict = compare_runs(BASELINE, make_run(scores), gate(thresholds={}))
        assert {c.outcome for c in verdict.comparisons} == {"equal"}

    def test_a_metric_of_unknown_direction_is_told_and_fails_nothing(self):
        runs = [make_run({("fsq", "loudness"): SCORES["fsq", "pesq"] + uneven(by)}) for by in (0, 0.5)]
        verdict = compare_runs(*runs, gate())
        assert verdict.exit_status == 0
        assert one(verdict, "loudness").outcome == "moved"
        assert "not known" in verdict.findings[0].text

    def test_speakers_unknown_to_one_run_are_taken_from_the_other(self):
        unknown = changed(make_run(noisy(SCORES, 1)), speaker=None)
        assert {c.units for c in compare_runs(BASELINE, unknown, gate()).comparisons} == {12}
        without = compare_runs(changed(BASELINE, speaker=None), unknown, gate())
        assert {(c.units, c.unit) for c in without.comparisons} == {(50, "utterances")}


class TestFewUnits:
    """With six speakers the smallest p is 1/32."""

    def runs(self, by: float):
        speakers = [f"s{number % 6}" for number in range(len(IDS))]
        scores = dict(SCORES)
        scores["fsq", "pesq"] = scores["fsq", "pesq"] + by
        return make_run(SCORES, speakers=speakers), make_run(scores, speakers=speakers)

    def test_what_can_never_be_found_is_no_pass(self):
        verdict = compare_runs(*self.runs(-0.5), gate())
        assert verdict.exit_status == 2
        assert "cannot be decided: pesq of fsq is worse by 0.5" in verdict.reasons[0]
        assert "6 speakers are too few" in verdict.reasons[0]

    def test_fewer_comparisons_decide_it(self):
        assert compare_runs(*self.runs(-0.5), gate(metrics=["pesq"]), ["fsq"]).exit_status == 1

    def test_better_or_equal_passes_with_a_note(self):
        for by in (0.0, 0.5, -0.01):
            verdict = compare_runs(*self.runs(by), gate())
            assert verdict.exit_status == 0
            assert any("none of 12 tests could have been significant" in note for note in verdict.notes)
            assert all(not c.testable and c.detectable is None for c in verdict.comparisons)


class TestNoise:
    def test_two_equally_good_runs_are_rarely_told_apart(self):
        """100 comparisons at 5 %: more than 10 would come by chance once in 100 times. 1,000: benchmarks/gate.py."""
        without_thresholds = gate(thresholds={})
        decisions = [
            compare_runs(BASELINE, make_run(noisy(SCORES, seed)), without_thresholds).decision for seed in range(1, 101)
        ]
        assert set(decisions) <= {"same", "better", "regression"}
        assert sum(decision != "same" for decision in decisions) <= 10

    def test_the_detectable_difference_is_more_likely_found_than_not_and_half_of_it_is_not(self):
        found = {0.5: 0, 1.0: 0}
        without_thresholds = gate(thresholds={})
        for seed in range(1000, 1015):
            scores = noisy(SCORES, seed)
            told = one(compare_runs(BASELINE, make_run(scores), without_thresholds), "pesq").detectable
            for share in found:
                moved = scores | {("fsq", "pesq"): scores["fsq", "pesq"] - share * told}
                verdict = compare_runs(BASELINE, make_run(moved), without_thresholds)
                found[share] += one(verdict, "pesq").outcome == "regression"
        assert found[0.5] <= 5 < 8 <= found[1.0]


class TestFailures:
    def lost(self, number: int, status: str = "failed"):
        run = make_run(SCORES)
        frame = run.utterances
        rows = (frame["system"] == "fsq") & (frame["metric"] == "pesq") & frame["utterance"].isin(IDS[:number])
        return changed(
            run,
            value=frame["value"].mask(rows),
            status=frame["status"].mask(rows, status),
            detail=frame["detail"].mask(rows, "no utterance detected"),
        )

    def test_a_score_that_newly_fails_is_a_regression(self):
        verdict = compare_runs(BASELINE, self.lost(3), gate())
        assert verdict.exit_status == 1
        (finding,) = verdict.findings
        assert finding.kind == "failures"
        assert finding.text == "3 of the baseline's 50 scores failed: u00, u01, u02 (no utterance detected)"
        assert one(verdict, "pesq").n == 47

    def test_as_many_as_allowed_are_warned_of(self):
        verdict = compare_runs(BASELINE, self.lost(3), gate(max_new_failures=3))
        assert (verdict.exit_status, verdict.findings[0].outcome) == (0, "warning")
        assert compare_runs(BASELINE, self.lost(4), gate(max_new_failures=3)).exit_status == 1

    def test_all_failed_is_a_regression_not_an_unavailable_metric(self):
        verdict = compare_runs(BASELINE, self.lost(50), gate())
        assert verdict.exit_status == 1
        assert one(verdict, "pesq").outcome == "unavailable"

    def test_what_failed_before_is_nothing_new(self):
        assert compare_runs(self.lost(3), self.lost(3), gate()).exit_status == 0
        assert compare_runs(self.lost(3), BASELINE, gate()).exit_status == 0

    def test_few_scores_are_not_tested(self):
        verdict = compare_runs(self.lost(45), BASELINE, gate())
        assert one(verdict, "pesq").outcome == "too few"
        assert compare_runs(self.lost(45), BASELINE, gate(require=["pesq"])).exit_status == 2


class TestExact:
    def moved(self, by: float):
        scores = dict(SCORES)
        scores["fsq", "stoi"] = scores["fsq", "stoi"].copy()
        scores["fsq", "stoi"][7] += by
        return make_run(scores)

    def test_one_utterance_in_either_direction_is_found(self):
        rule = {"metrics": ["stoi"], "tolerance": 1e-6}
        for by in (1e-5, -1e-5):
            verdict = compare_runs(BASELINE, self.moved(by), gate(exact=[rule]))
            assert verdict.exit_status == 1
            assert "1 of 50 utterances" in verdict.findings[0].text
            assert "most u07" in verdict.findings[0].text
        assert compare_runs(BASELINE, self.moved(1e-7), gate(exact=[rule])).exit_status == 0

    def test_the_mean_may_have_a_closer_tolerance(self):
        scores = SCORES | {("fsq", "stoi"): SCORES["fsq", "stoi"] - uneven(0.002)}
        for mean_tolerance, status in ((0.0019, 1), (0.0021, 0)):
            rule = {"metrics": ["stoi"], "tolerance": 0.01, "mean_tolerance": mean_tolerance}
            verdict = compare_runs(BASELINE, make_run(scores), gate(exact=[rule]))
            assert verdict.exit_status == status

    def test_holds_for_the_systems_and_metrics_named(self):
        for rule in ({"metrics": ["stoi"], "systems": ["rhombic"]}, {"metrics": ["pesq"]}):
            assert compare_runs(BASELINE, self.moved(0.1), gate(exact=[rule])).exit_status == 0

    def test_a_rule_that_nothing_is_held_against_is_refused(self):
        verdict = compare_runs(BASELINE, BASELINE, gate(exact=[{"metrics": ["utmos"]}]))
        assert verdict.exit_status == 2
        assert "exact names utmos" in verdict.reasons[0]
        with pytest.raises(GateError, match=r"'fsk', which is not in the baseline. Did you mean 'fsq'"):
            compare_runs(BASELINE, BASELINE, gate(exact=[{"metrics": ["pesq"], "systems": ["fsk"]}]))


class TestQuantities:
    def test_are_told_and_fail_only_by_a_limit(self):
        runs = coded(), coded(bits_per_frame=20.0)
        verdict = compare_runs(*runs, gate())
        assert verdict.exit_status == 0
        (moved,) = (q for q in verdict.quantities if q.change)
        assert (moved.system, moved.name, moved.change) == ("fsq", "bits_per_frame", 0.75)
        limited = compare_runs(*runs, gate(limits={"bits_per_frame": {"max_increase": 0.01}}))
        assert limited.exit_status == 1
        assert "19.25 -> 20 (+0.75), beyond max_increase 0.01" in limited.findings[0].text

    @pytest.mark.parametrize(("after", "status"), [(0.9, 0), (0.899, 1), (1.0, 0)])
    def test_a_limit_has_a_direction_and_includes_its_end(self, after, status):
        runs = coded(), coded(utilization=after)
        assert compare_runs(*runs, gate(limits={"utilization": {"max_decrease": 0.05}})).exit_status == status

    def test_a_limit_on_what_one_run_lacks_is_refused(self):
        limits = {"utilization": {"max_decrease": 0.05}}
        assert "no compared system has" in compare_runs(BASELINE, BASELINE, gate(limits=limits)).reasons[0]
        verdict = compare_runs(coded(), coded(utilization=None), gate(limits=limits))
        assert "fsq has it in the baseline only" in verdict.reasons[0]


class TestSpeed:
    def test_slower_warns(self):
        verdict = compare_runs(coded(), coded(rtf_decode=0.03), gate())
        assert verdict.exit_status == 0
        (warning,) = verdict.found("warning")
        assert "1.50 times as slow" in warning.text
        assert compare_runs(coded(), coded(rtf_decode=0.024), gate()).findings == ()

    def test_fails_only_if_asked_to_and_on_equal_hardware(self):
        strict = gate(speed={"warn": 1.25, "fail": 1.4})
        assert compare_runs(coded(), coded(rtf_decode=0.03), strict).exit_status == 1
        other = compare_runs(coded(), coded(rtf_decode=0.03, hardware=HARDWARE | {"cpu": "Other"}), strict)
        assert (other.exit_status, other.speeds) == (0, ())
        assert "speed is not compared: other hardware (cpu CPU / Other)" in other.notes

    def test_measured_otherwise_is_not_compared(self):
        verdict = compare_runs(coded(), coded(rtf_decode=0.03, rtf_detail="batch 8"), gate())
        assert verdict.findings == ()
        assert "speed of fsq is not compared: measured as batch 1 / batch 8" in verdict.notes
