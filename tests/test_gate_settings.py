"""gate.yaml: what is read from it, and what is refused in one line."""

from __future__ import annotations

import pytest

from evalkit.gate import GateError, compare_runs, load_gate
from evalkit.metrics import METRICS
from evalkit.tables import metric_format
from tests.gate_runs import base_scores, make_run


def read(tmp_path, text: str):
    path = tmp_path / "gate.yaml"
    path.write_text(text, encoding="utf-8")
    return load_gate(str(path))


def test_every_metric_that_ships_has_a_threshold_above_its_last_digit():
    gate = load_gate()
    assert set(gate.thresholds) == set(METRICS._entries)
    for name, threshold in gate.thresholds.items():
        assert threshold >= 10.0 ** -metric_format(name).decimals
    assert gate.threshold("of-a-plugin") == 0


def test_a_file_stands_over_the_defaults(tmp_path):
    default = load_gate()
    own = read(
        tmp_path, "thresholds: {pesq: 0.2}\nspeed: {fail: 2}\nalpha: 0.01\nexact: {metrics: [stoi], tolerance: 1e-6}\n"
    )
    assert (own.threshold("pesq"), own.threshold("stoi")) == (0.2, default.threshold("stoi"))
    assert (own.speed.warn, own.speed.fail) == (default.speed.warn, 2)
    assert (own.alpha, own.min_utterances) == (0.01, default.min_utterances)
    (rule,) = own.exact
    assert (rule.metrics, rule.systems, rule.tolerance) == (["stoi"], None, 1e-6)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("treshold: {pesq: 1}", "treshold is not a known key. Did you mean 'thresholds'"),
        (
            "limits: {utilization: {max_fall: 1}}",
            "utilization.max_fall is not a known key.*Known: max_increase, max_decrease",
        ),
        (
            "limits: {utilisation: {max_decrease: 1}}",
            "utilisation is no number of a system. Did you mean 'utilization'",
        ),
        ("limits: {utilization: {}}", "give max_increase, max_decrease or both"),
        ("thresholds: {pesq: -1}", r"thresholds.pesq: .*greater than or equal to 0 \(given: -1\)"),
        ("thresholds: {pesq: .nan}", "thresholds.pesq is nan: expected a finite number"),
        ("thresholds: {pesq: yes}", "thresholds.pesq: expected a number"),
        ("thresholds: 3", "thresholds: "),
        ("alpha: 0.7", r"alpha: .*less than 0.5 \(given: 0.7\)"),
        ("speed: {warn: 2, fail: 1.5}", r"fail \(1.5\) is below warn \(2\)"),
        ("metrics: [pesq]\nrequire: [stoi]", "require names stoi, which is not among metrics: pesq"),
        ("- pesq", "expected keys and values, found list"),
        ("alpha: [", "is not valid YAML"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, text, told):
    with pytest.raises(GateError, match=told) as caught:
        read(tmp_path, text)
    assert "gate.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistyped_metric_is_refused_and_one_of_the_runs_is_known(tmp_path):
    scores = base_scores()
    run = make_run({("fsq", "loudness"): scores["fsq", "pesq"]})
    gate = read(tmp_path, "thresholds: {loudness: 0.1}")
    assert compare_runs(run, run, gate).exit_status == 0
    with pytest.raises(GateError, match=r"'pesk', which is no metric.*Did you mean 'pesq'"):
        compare_runs(run, run, read(tmp_path, "thresholds: {pesk: 0.1}"))
