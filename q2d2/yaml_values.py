"""Plain values from the YAML of anybody, within the bounds of q2d2/plain_values.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from q2d2.errors import shown
from q2d2.plain_values import MAX_DEPTH, MAX_DIGITS, TOO_DEEP, NotPlain, read_text, shortened

MAX_YAML_BYTES = 2**20
# Counted with what aliases stand for, each time that they do.
MAX_YAML_VALUES = 30_000
MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path) -> Any:
    """The values of a YAML file; raises as `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path, MAX_YAML_BYTES))


def parse_yaml(text: str) -> Any:
    """The values of a YAML text; they may still be of any kind (dates, bytes), see `require_plain`.

    Raises:
        NotPlain: not YAML; a key twice, a number of too many digits, too many values, nested too deep.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise NotPlain(f"is not valid YAML: {shortened(error)}") from error
    except RecursionError as error:
        raise NotPlain(TOO_DEEP) from error
    except NotPlain:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        # A tag that its text does not fit, as !!int many, or a date that is none.
        raise NotPlain(f"is not valid YAML: {shortened(error)}") from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe one, for texts that are neither deep nor, with all that aliases stand for, large."""

    def __init__(self, text: str) -> None:
        try:
            super().__init__(text)
        except yaml.YAMLError as error:  # characters that YAML does not have
            raise NotPlain(f"is not valid YAML: {shortened(error)}") from error
        self._depth = self._composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        self._composed += 1
        _limit(self._composed, self._depth)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE]
        if len(set(keys)) < len(keys):
            twice = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise ConstructorError(None, None, f"the key {shown(twice[1])} is there twice", node.start_mark)
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            self._measure(node, 1, {})
        return node

    def _measure(self, node: yaml.Node, depth: int, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
        """How many values a node stands for, aliases followed, and how deep they are."""
        if id(node) in known:
            found = known[id(node)]
            if found is None:
                raise NotPlain("is not valid YAML: an alias stands for what it is a part of")
            _limit(found[0], depth + found[1])
            return found
        known[id(node)] = None
        size, height = 1, 0
        for child in _children(node):
            inner, below = self._measure(child, depth + 1, known)
            size, height = size + inner, max(height, below + 1)
            _limit(size, depth)
        known[id(node)] = size, height
        return size, height

    def construct_short_number(self, node: yaml.ScalarNode) -> int | float:
        if len(node.value) > MAX_DIGITS:
            raise NotPlain(f"is not valid YAML: a number of {len(node.value):,} digits")
        whole = node.tag.endswith(":int")
        value: int | float = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        return value


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_short_number)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _limit(values: int, depth: int) -> None:
    if values > MAX_YAML_VALUES:
        raise NotPlain(f"holds more than {MAX_YAML_VALUES:,} values")
    if depth > MAX_DEPTH:
        raise NotPlain(TOO_DEEP)
