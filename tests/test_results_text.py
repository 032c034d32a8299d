"""What README.md and results/README.md say of the committed runs is in their rows and tables."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from evalkit.tables import compare_with_baseline, summarize

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
TOLD = " ".join((RESULTS / "README.md").read_text(encoding="utf-8").split())
NAMES = {
    "rectangular": "rectangular", "rhombic": "rhombic", "hexagonal": r"hexagonal \(published grid\)",
    "hexagonal-regular": r"hexagonal-regular \(A2\)", "fsq": "FSQ, 7 channels", "vq": "VQ, 4,096 codes",
    "rvq": "RVQ, 2 x 784 codes", "null": r"\*null \(no bottleneck\)\*", "mulaw-8bit": r"\*8-bit mu-law\*",
}  # fmt: skip
MARKS = {"better": " ▲", "worse": " ▼", "": ""}


@pytest.fixture(scope="module")
def tiny() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = pd.read_parquet(RESULTS / "tiny" / "utterances.parquet").query("metric in ['pesq', 'stoi']")
    systems = pd.read_parquet(RESULTS / "tiny" / "systems.parquet")
    differences = compare_with_baseline(rows, systems, "rhombic")
    return summarize(rows, systems, differences).set_index("system"), differences.set_index(["metric", "system"])


@pytest.mark.parametrize("system", NAMES)
def test_the_table_of_the_readme_is_that_of_the_rows(system: str, tiny: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    summary, differences = tiny
    row = summary.loc[system]
    half = (row["pesq_high"] - row["pesq_low"]) / 2
    line = re.search(rf"\| {NAMES[system]} \|(.*?)\| (\**[\d.]+\**) ± ([\d.]+)( [▲▼])? \|", README)
    assert line is not None
    mark = MARKS[row["pesq_verdict"]]
    assert (line[2].strip("*"), line[3], line[4] or "") == (f"{row['pesq']:.2f}", f"{half:.2f}", mark)
    if row["bits_per_frame"] > 0:
        assert f"{row['bits_per_frame']:.2f}" in line[1]
    if system in ("rhombic", "mulaw-8bit"):
        return
    found = differences.loc[("pesq", system)]
    half = (found["high"] - found["low"]) / 2
    assert f"{found['difference']:+.3f} ± {half:.3f} |" in README[line.start() : line.start() + 250]
    short = f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]{mark}"
    assert short.replace("-0.000", "0.000") in TOLD.replace("-0.000", "0.000").replace("+0.000", "+0.000")


@pytest.fixture(scope="module")
def matched() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "q2d2-ablation" / "tables" / "matched.csv", keep_default_na=False, na_values=[""])


@pytest.fixture(scope="module")
def claims() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "q2d2-ablation" / "tables" / "claims.csv")


def told(difference: float, low: float, high: float, decimals: int = 3) -> str:
    return f"{abs(difference):.{decimals}f} ± {(high - low) / 2:.{decimals}f}"


def test_verdicts_of_claims_are_told_with_their_numbers(claims: pd.DataFrame) -> None:
    of_claim = claims.groupby("claim")["claim_verdict"].first().to_dict()
    assert of_claim == {
        "tilings": "undecided", "dimension": "contradicted", "levels": "untested", "utilization": "undecided",
    }  # fmt: skip
    chosen = claims.set_index(["comparison", "metric"])
    for comparison, metric, decimals, verdict, texts in (
        ("rhombic d=6 better than hexagonal at 20 bits/frame", "pesq", 3, "undecided", (TOLD, README)),
        ("hexagonal better than rectangular at 20 bits/frame", "pesq", 3, "undecided", (TOLD, README)),
        ("rhombic d=6 better than rhombic d=10 at 20 bits/frame", "pesq", 3, "contradicted", (TOLD, README)),
        ("rhombic d=6 better than rhombic d=8 at 20 bits/frame", "stoi", 4, "contradicted", (TOLD, README)),
        ("rhombic d=6 better than rhombic d=4 at 20 bits/frame", "stoi", 4, "supported", (TOLD,)),
        ("rhombic d=6 better than rhombic d=8 at 20 bits/frame", "pesq", 3, "undecided", (TOLD,)),
    ):
        row = chosen.loc[(comparison, metric)]
        assert row["verdict"] == verdict
        for text in texts:
            assert told(row["difference"], row["low"], row["high"], decimals) in text, (comparison, metric)
    ten = chosen.loc[("rhombic d=6 better than rhombic d=10 at 20 bits/frame", "pesq")]
    assert f"p = {ten['p_holm']:.3f}" in README
    assert f"p = {ten['p_holm']:.3f}" in TOLD


def test_differences_at_equal_rate_are_told_as_they_are(matched: pd.DataFrame) -> None:
    nominal = matched[(matched["rate"] == "nominal") & (matched["metric"] == "pesq")]
    at_20 = nominal[(nominal["measure"] == "difference") & (nominal["target"] == 20)].set_index("series")
    assert at_20.loc["rvq", "verdict"] == "better"
    row = at_20.loc["rvq"]
    for text in (README, TOLD):
        assert f"{row['difference']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in text
    for name in ("d4", "e8", "fsq"):
        row = at_20.loc[name]
        assert pd.isna(row["verdict"])
        assert f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" in TOLD
    rates = nominal[nominal["measure"] == "rate difference"].set_index("series")
    for name in ("d4", "e8", "fsq"):
        row = rates.loc[name]
        saved = [-100 * row[key] for key in ("difference", "high", "low")]
        assert f"{saved[0]:.0f} % [{saved[1]:.0f}, {saved[2]:.0f}]" in TOLD
        assert f"{row['range_low']:.2f} to {row['range_high']:.2f}" in TOLD
    tilings = matched[matched["series"].isin(["rectangular", "hexagonal", "hexagonal-regular"])]
    assert tilings["verdict"].isna().all()
    assert "Between the four tilings of the plane no difference was found" in TOLD


def test_the_time_of_the_trials_is_that_of_the_rows() -> None:
    trials = pd.read_parquet(RESULTS / "q2d2-ablation" / "trials.parquet")
    assert f"{len(trials)} trainings" in TOLD
    assert f"{trials['seconds'].sum() / 60:.0f} minutes of trials" in TOLD
