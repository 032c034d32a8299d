"""evalkit.sweeps.families: the configuration of each family that is nearest to a rate."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.sweeps.families import FamilyError, families, family_of, nearest
from q2d2.bottleneck import build_bottleneck


@pytest.mark.parametrize("family", sorted(families()))
@pytest.mark.parametrize("channels", [6, 8])
def test_the_rate_is_that_of_the_bottleneck_itself(family, channels):
    target = 12.0 if family == "vq" else 15.14
    found = nearest(family, target, channels)
    options = dict(found.bottleneck)
    built = build_bottleneck(options.pop("name"), 16, **options)
    assert found.bits_per_frame == pytest.approx(built.bits_per_frame, abs=1e-9)
    assert abs(found.bits_per_frame - target) <= 0.5
    assert found.family == family == family_of(found.bottleneck)


@settings(max_examples=40, deadline=None)
@given(st.floats(9.25, 24.0), st.sampled_from([4, 6]))  # six channels of three levels have 9.51 bits
def test_no_other_even_spread_of_levels_is_nearer(target, channels):
    found = nearest("rectangular", target, channels)
    levels = found.bottleneck["levels"]
    assert len(levels) == channels
    assert max(levels) - min(levels) <= 1
    assert levels == sorted(levels, reverse=True)
    assert levels[::2] == levels[1::2]
    pairs = channels // 2
    rates = [
        2 * (raised * math.log2(level + 1) + (pairs - raised) * math.log2(level))
        for level, raised in itertools.product(range(3, 80), range(pairs + 1))
    ]
    assert abs(found.bits_per_frame - target) == pytest.approx(min(abs(rate - target) for rate in rates))


def test_lattices_take_whole_groups():
    assert len(nearest("d4", 15.29, 6).bottleneck["levels"]) == 2  # 8 channels
    assert len(nearest("e8", 15.14, 6).bottleneck["levels"]) == 1
    assert len(nearest("a2", 15.0, 6).bottleneck["levels"]) == 3


def test_rvq_has_as_few_equal_codebooks_as_hold_ten_bits_each():
    assert nearest("rvq", 20).bottleneck == {"name": "rvq", "codebook_size": 1024, "num_quantizers": 2}
    assert nearest("rvq", 10).bottleneck["num_quantizers"] == 1
    assert nearest("rvq", 20.01).bottleneck["num_quantizers"] == 3


@pytest.mark.parametrize(
    ("family", "bits", "channels", "told"),
    [
        ("rhombus", 15, 6, "Did you mean 'rhombic'"),
        ("vq", 19, 6, "vq with 6 channels has nothing near 19 bits"),
        ("e8", 13, 8, "the nearest has 11.74"),
        ("rhombic", 0, 6, "expected a positive number"),
        ("rhombic", math.nan, 6, "expected a positive number"),
        ("rhombic", 15, 0, "channels 0"),
    ],
)
def test_what_cannot_be_reached_is_told(family, bits, channels, told):
    with pytest.raises(FamilyError, match=told):
        nearest(family, bits, channels)


def test_the_family_of_a_bottleneck_with_defaults():
    assert family_of({"name": "q2d2"}) == "rhombic"
    assert family_of({"name": "lattice", "lattice": "e8"}) == "e8"
    assert family_of({"name": "vq", "codebook_size": 8}) == "vq"
