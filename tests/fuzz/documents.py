"""YAML and JSON of ours with one thing wrong: hostile values, missing keys, foreign bytes, other encodings."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml

from tests.fuzz.damage import damaged

# What a stranger, or a slip, may put where a value belongs; as YAML text.
HOSTILE_YAML = [
    "", "null", "true", "yes", "no", "0", "-1", "1", "1.5", "-0.0", ".nan", ".inf", "-.inf", "1e3", "1e999999",
    "1.0e+999999", str(10**30), "9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "1:1" * 500, "9223372036854775807",
    "1000000000000", '"7"', '"yes"', "'1e-3'", "text", "a" * 5000, '"\\0"', '"\\ud800"', '"\\e[31mred"', "日本", "[]",
    "{}", "[1, 2]", "[[]]", "[" * 10_000, "[" * 10_000 + "]" * 10_000, "{a: " * 200 + "1" + "}" * 200, "{a: 1, a: 2}",
    "{1: 2}", "{null: 1}", "{true: 1}", "{[1]: 2}", "{? {a: 1} : 2}", "{<<: {a: 1}}", "{<<: 5}", "2026-01-31",
    "2026-13-45", "2026-01-31T12:00:00Z", "!!binary aGk=", "!!binary ?", "!!set {a, b}", "!!omap [a: 1]",
    "!!pairs [a: 1]", "!!int many", "!!float x", "!!timestamp x", "!!bool maybe", "!!python/object:os.system {}",
    "!unknown x", "&a [*a]", "*nothing", "\t- a", "- a\n\t- b", "a: b: c", "%YAML 9.9", "--- 1\n--- 2",
    "[1000000, 1000000]", "[1000000000000]", "{name: rvq, num_quantizers: 1000000}",
    "{name: vq, codebook_size: 1000000000000}",
    "{name: q2d2, levels: " + str([1024] * 18) + "}",
    "{name: q2d2, levels: [3163, 3163]}", "{name: fsq, levels: " + str([5] * 100_000) + "}",
    "{name: lattice, levels: [1000000000]}", "{name: lattice, lattice: e8, levels: " + str([7] * 50_000) + "}",
    "{name: vq, codebook_dim: 1000000000}", "{name: [a], levels: {}}", "{name: q2d2, tiling: [a]}",
    "{name: q2d2, gradient: {}}", "/dev/zero", "../../../etc/passwd", "~nobody",
]  # fmt: skip
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGE_BOMB = "b0: &b0 {x: 1}\n" + "".join(
    f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 10)}], k{n}: 1}}\n" for n in range(1, 12)
)
HOSTILE_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, 10**12, 10**30, 2**63, -(2**63) - 1, 1e300, "", "7", "text", "a" * 5000, "\0",
    "\ud800", "\x1b[31m",
    [], {}, [1, 2], [[]], {"a": 1}, [0], [10**9], [5] * 100_000, {"name": "vq"}, "../../x", "日本",
]  # fmt: skip
RAW_JSON = [
    "NaN", "Infinity", "-Infinity", "1e999999", "9" * 5000, "-" + "9" * 5000, "[" * 100_000, "[" * 900 + "]" * 900,
    '{"a":' * 5000, '{"a":1,"a":2}', '"\\ud800"', '"\\u0000"', "", "x", "'a'", "\ufeff1", "1 2", "tru",
]  # fmt: skip


WHOLE = [b"", b"null", b"[]", b"5", b"[" * 10_000, b"{" * 10_000, b"- " * 10_000, BOMB.encode(), MERGE_BOMB.encode()]
ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]
MARK = "MARKMARKMARK"


def places(values: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where all values inside plain ones are."""
    found = [prefix] if prefix else []
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, inner in items:
        found += places(inner, (*prefix, key))
    return found


def replaced(values: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in one place."""
    changed = copy.deepcopy(values)
    _parent(changed, place)[place[-1]] = value
    return changed


def removed(values: Any, place: tuple[Any, ...]) -> Any:
    """A copy without one value."""
    changed = copy.deepcopy(values)
    del _parent(changed, place)[place[-1]]
    return changed


def _parent(values: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        values = values[key]
    return values


def _foreign(rng: random.Random, text: str) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(WHOLE)
    if kind == 1:
        return text.encode(rng.choice(ENCODINGS))
    return damaged(rng, text.encode())


def mutated_yaml(rng: random.Random, values: dict[str, Any]) -> bytes:
    """A YAML file like the one of `values`."""
    kind = rng.randrange(6)
    place = rng.choice(places(values))
    if kind <= 2:
        return (
            dump(replaced(values, place, MARK)).replace(MARK, rng.choice(HOSTILE_YAML)).encode("utf-8", "surrogatepass")
        )
    if kind == 3:
        return dump(removed(values, place)).encode()
    if kind == 4:
        return (rng.choice([BOMB, MERGE_BOMB]) + dump(values)).encode()
    return _foreign(rng, dump(values))


def mutated_json(rng: random.Random, values: dict[str, Any]) -> bytes:
    """A JSON file like the one of `values`."""
    kind = rng.randrange(6)
    place = rng.choice(places(values))
    if kind <= 1:
        return json.dumps(replaced(values, place, rng.choice(HOSTILE_VALUES))).encode("utf-8", "surrogatepass")
    if kind == 2:
        return json.dumps(replaced(values, place, MARK)).replace(f'"{MARK}"', rng.choice(RAW_JSON)).encode()
    if kind == 3:
        return json.dumps(removed(values, place)).encode()
    if kind == 4 and isinstance(place[-1], str):
        added = (*place[:-1], rng.choice(["", "\u00e9", "a" * 300, "self", "dim", "\x1b[31m"]))
        return json.dumps(replaced(values, added, rng.choice(HOSTILE_VALUES))).encode("utf-8", "surrogatepass")
    return _foreign(rng, json.dumps(values, indent=1))


def override(rng: random.Random, values: dict[str, Any]) -> str:
    """One --set of an experiment: a key of it, or none, with a hostile value."""
    place = [str(part) for part in rng.choice(places(values))]
    kind = rng.randrange(8)
    if kind == 0:
        place.append(rng.choice(["more", "0", "999999999999", "", "\u00e9", "\u0663", "a" * 5000, "x." * 2000 + "y"]))
    if kind == 1:
        place[rng.randrange(len(place))] = rng.choice(["", "0", "99", "-1", "steps", "null", "\x1b[31m"])
    return f"{'.'.join(place)}={rng.choice(HOSTILE_YAML)}"


def dump(values: Any) -> str:
    """Plain values as YAML."""
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text
