"""Claims of a paper as a file: what is refused and how, what a selector selects."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from evalkit.sweeps.claim_files import SOURCES, ClaimsError, Selector, load_claims
from tests.synthetic_sweep import Noise

SURE = Noise(seed=0.004, score=0.01)
METRICS = ["pesq", "stoi"]
BETTER = {
    "kind": "better", "better": {"family": "rhombic"}, "worse": {"family": "hexagonal"}, "bits_per_frame": [20],
}  # fmt: skip
AT_LEAST = {"kind": "at_least", "quantity": "utilization", "threshold": 0.99, "of": {"bottleneck": "q2d2"}}


def file_of(*comparisons: dict[str, Any], **values: Any) -> dict[str, Any]:
    claim = {"id": "one", "text": "It is so.", "source": "abstract", "comparisons": list(comparisons)}
    return {"title": "A paper", "source": "here", "metrics": METRICS, "claims": [claim], **values}


def first(values: dict[str, Any]) -> dict[str, Any]:
    """The first comparison of a file."""
    found: dict[str, Any] = values["claims"][0]["comparisons"][0]
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: first(v).update(toleranc=1), r"better\.toleranc is not a known key.*'tolerance'"),
        (lambda v: first(v)["worse"].update(chanels=6), r"worse\.chanels is not.*'channels'"),
        (lambda v: first(v)["better"].update(family="rombic"), r"no family 'rombic'.*'rhombic'"),
        (lambda v: first(v)["better"].update(family="q2d2"), r"no family 'q2d2'"),
        (lambda v: first(v)["better"].update(bottleneck="q2d3"), r"no bottleneck 'q2d3'.*'q2d2'"),
        (lambda v: first(v).update(worse={}), r"worse: it selects everything: give some of family"),
        (lambda v: first(v)["better"].update(levels={}), "give at_least, at_most or both"),
        (
            lambda v: first(v)["better"].update(levels={"at_least": 9, "at_most": 5}),
            "at_least 9 is above at_most 5",
        ),
        (lambda v: first(v).update(kind="best"), "'better', 'at_least'"),
        (lambda v: first(v).update(bits_per_frame=[]), "bits_per_frame: List should have"),
        (lambda v: first(v).update(bits_per_frame=[0]), "greater than 0"),
        (lambda v: first(v).update(metrics=["pesk"]), "unknown metric 'pesk'.*'pesq'"),
        (lambda v: v.update(metrics=["pesk"]), "unknown metric 'pesk'.*'pesq'"),
        (lambda v: v["claims"].append(v["claims"][0]), "two claims are called 'one'"),
        (lambda v: v["claims"][0].pop("source"), r"claims\.0\.source: Field required"),
        (lambda v: v["claims"][0].update(verdict="yes"), r"claims\.0\.verdict is not a known key"),
        (lambda v: v.update(claim=[]), r"claim is not a known key. Did you mean 'claims'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(tmp_path, change, message):
    values = yaml.safe_load(yaml.safe_dump(file_of(BETTER)))  # a copy
    change(values)
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ClaimsError, match=message) as error:
        load_claims(str(path))
    assert str(error.value).startswith(f"claims {path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 99}, r"at_least\.threshold: Input should be less than or equal to 1 \(given: 99\)"),
        ({"quantity": "entropy"}, r"at_least\.quantity: Input should be 'utilization' or 'normalized_entropy'"),
        ({"treshold": 1}, r"at_least\.treshold is not a known key. Did you mean 'threshold'"),
        ({"of": {"bottlenek": "q2d2"}}, r"of\.bottlenek is not a known key. Did you mean 'bottleneck'"),
    ],
)
def test_what_is_wrong_in_a_threshold_is_named(tmp_path, change, message):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(file_of(AT_LEAST | change)), encoding="utf-8")
    with pytest.raises(ClaimsError, match=message):
        load_claims(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[1", "is not valid YAML"),
        (b"- 1", "expected keys and values, found list"),
        (b"\xff\xfe\xff", "not text in UTF-8"),
    ],
)
def test_a_file_that_is_no_claims_is_refused(tmp_path, text, message):
    path = tmp_path / "claims.yaml"
    path.write_bytes(text)
    with pytest.raises(ClaimsError, match=message):
        load_claims(str(path))


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(ClaimsError, match=r"no claims 'q2d2-claim'. Did you mean 'q2d2-claims'"):
        load_claims("q2d2-claim")
    with pytest.raises(ClaimsError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_claims("nowhere.yaml")


def test_the_claims_of_q2d2_are_valid_and_say_where_the_reading_is_ours():
    assert "q2d2-claims" in SOURCES.names()
    claims = load_claims("q2d2-claims")
    assert [claim.id for claim in claims.claims] == ["tilings", "dimension", "levels", "utilization"]
    assert claims.metrics == ["utmos", "pesq", "stoi"]
    assert all(claim.test.startswith(("Our ", "Not tested by this design")) for claim in claims.claims)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({"family": "rhombic"}, {"six", "four", "ten", "eight"}),
        ({"family": "rhombic", "channels": 6}, {"six"}),
        ({"bottleneck": "q2d2"}, {"six", "four", "ten", "eight", "hexagonal"}),
        ({"levels": {"at_least": 5, "at_most": 11}}, {"six", "hexagonal"}),
        ({"levels": {"at_least": 12}}, {"four"}),
        ({"levels": {"at_most": 4}}, {"ten"}),
        ({"family": "rvq", "levels": {"at_most": 4}}, set()),
        ({"channels": 2}, set()),
    ],
)
def test_a_selector_selects_what_fulfils_all_that_it_names(selector, selected):
    there = {
        "six": ("rhombic", "q2d2", 6, (8, 8, 7, 5)), "four": ("rhombic", "q2d2", 4, (23, 12)),
        "ten": ("rhombic", "q2d2", 10, (4, 4, 3)), "eight": ("rhombic", "q2d2", 8, (5, 4)),
        "hexagonal": ("hexagonal", "q2d2", 6, (11, 5)), "rvq": ("rvq", "rvq", None, None),
    }  # fmt: skip
    one = Selector.model_validate(selector)
    assert {name for name, values in there.items() if one.selects(*values)} == selected
