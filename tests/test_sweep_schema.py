"""evalkit.sweeps.schema and points: reading sweep files, and the points that they stand for."""

import pytest
import yaml

from evalkit.sweeps import SweepError
from evalkit.sweeps.points import points
from evalkit.sweeps.schema import Constraint, built_in_sweeps, load_sweep


def write(tmp_path, **values):
    path = tmp_path / "sweep.yaml"
    path.write_text(
        yaml.safe_dump({"name": "mine", "experiment": "quick", **values}, allow_unicode=True, sort_keys=False)
    )
    return str(path)


def test_every_built_in_sweep_loads():
    names = built_in_sweeps()
    assert {"tilings", "levels", "dimension", "matched-rate", "bottlenecks", "q2d2-ablation"} <= set(names)
    for name in names:
        sweep = load_sweep(name)
        assert sweep.name == name
        assert sweep.title
        assert len(sweep.seeds) == 3


def test_a_grid_has_every_combination_over_what_is_set(tmp_path):
    path = write(
        tmp_path,
        set={"train.steps": 5},
        points=[
            {"set": {"bottleneck.name": "q2d2"}, "grid": {"bottleneck.tiling": ["rhombic", "hexagonal"], "a": [1, 2]}},
            {"list": [{"bottleneck": {"name": "vq"}}], "seeds": [7]},
        ],
        seeds=[0, 1],
    )
    found = list(points(load_sweep(path)))
    assert [dict(point.values) for point in found] == [
        {"train.steps": 5, "bottleneck.name": "q2d2", "bottleneck.tiling": tiling, "a": number}
        for tiling in ("rhombic", "hexagonal")
        for number in (1, 2)
    ] + [{"train.steps": 5, "bottleneck": {"name": "vq"}}]
    assert found[0].varied == ("bottleneck.tiling", "a")
    assert found[0].seeds == (0, 1)
    assert found[-1].seeds == (7,)


def test_random_points_stay_within_their_ranges_and_the_first_ones_stay_when_more_are_drawn(tmp_path):
    def drawn(samples, seed=3):
        random = {
            "u": {"uniform": [1.0, 2.0]},
            "l": {"log_uniform": [1e-4, 1e-1]},
            "i": {"integer": [3, 5]},
            "c": {"choice": [[7, 7], "x"]},
        }
        path = write(tmp_path, points=[{"random": random, "samples": samples, "seed": seed}])
        return [dict(point.values) for point in points(load_sweep(path))]

    many = drawn(300)
    assert all(1 <= p["u"] <= 2 and 1e-4 <= p["l"] <= 1e-1 and p["c"] in ([7, 7], "x") for p in many)
    assert {p["i"] for p in many} == {3, 4, 5}
    assert 0.35 < sum(p["l"] < 10**-2.5 for p in many) / 300 < 0.65  # as many below as above the middle of the logs
    assert drawn(10) == many[:10]
    assert drawn(10, seed=4) != many[:10]


def test_matched_points_are_the_nearest_of_each_family(tmp_path):
    matched = {
        "families": ["rhombic", "e8"], "bits_per_frame": [15, 20], "channels": {"e8": 8},
        "options": {"rhombic": {"gradient": "published"}},
    }  # fmt: skip
    found = list(points(load_sweep(write(tmp_path, points=[{"matched": matched}]))))
    assert [point.target for point in found] == [15, 15, 20, 20]
    assert found[0].values["bottleneck"] == {
        "name": "q2d2", "tiling": "rhombic", "levels": [5, 5, 4, 4, 4, 4], "gradient": "published",
    }  # fmt: skip
    assert found[1].values["bottleneck"] == {"name": "lattice", "lattice": "e8", "levels": [4]}


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("20 ± 0.5", [19.5, 20.5, 20], [19.4, 20.6]),
        ("20 +- 0.5", [19.5], [19.4]),
        ("<= 20", [20, 3], [20.1]),
        (">= 12.5", [12.5], [12.4]),
        ("< 20", [19.9], [20]),
        ("> 20", [20.1], [20]),
    ],
)
def test_constraints(text, inside, outside):
    constraint = Constraint.parse("bits_per_frame", text)
    assert all(constraint.holds(value) for value in inside)
    assert not any(constraint.holds(value) for value in outside)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"points": []}, "points"),
        ({"points": [{"grid": {"a": []}}]}, "grid.a has no values"),
        ({"points": [{"grid": {"a": [1]}, "list": [{}]}]}, "give one of grid, list, random, matched"),
        ({"points": [{"list": [{}], "samples": 3}]}, "samples belongs to random"),
        ({"points": [{"random": {"a": {"uniform": [2, 1]}}, "samples": 1}]}, "the lower one first"),
        ({"points": [{"random": {"a": {"log_uniform": [0, 1]}}, "samples": 1}]}, "expected positive numbers"),
        ({"points": [{"random": {"a": {"normal": [0, 1]}}, "samples": 1}]}, "Known: uniform"),
        ({"points": [{"gird": {"a": [1]}}]}, "Did you mean 'grid'"),
        ({"points": [{"list": [{}]}], "constraints": {"bits": "20"}}, "cannot be constrained"),
        ({"points": [{"list": [{}]}], "constraints": {"bits_per_frame": "about 20"}}, 'such as "20 ± 0.5"'),
        ({"points": [{"list": [{}]}], "seeds": [1, 1]}, "different integers"),
        ({"points": [{"matched": {"families": ["rhombus"], "bits_per_frame": [9]}}]}, "Did you mean 'rhombic'"),
        ({"points": [{"list": [{}]}], "name": "../x"}, "name"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_key(tmp_path, values, told):
    with pytest.raises(SweepError) as error:
        load_sweep(write(tmp_path, **values))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_unreadable_files_are_told(tmp_path):
    with pytest.raises(SweepError, match="Did you mean 'tilings'"):
        load_sweep("tilngs")
    with pytest.raises(SweepError, match="cannot be read: No such file"):
        load_sweep(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(SweepError, match="not valid YAML"):
        load_sweep(str(tmp_path / "bad.yaml"))
    (tmp_path / "text.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SweepError, match="not text in UTF-8"):
        load_sweep(str(tmp_path / "text.yaml"))


def test_an_experiment_beside_the_sweep_is_found(tmp_path):
    (tmp_path / "base.yaml").write_text("name: base\n")
    path = write(tmp_path, experiment="base.yaml", points=[{"list": [{}]}])
    assert load_sweep(path).experiment == str(tmp_path / "base.yaml")
