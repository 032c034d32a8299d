"""Where published weights lie in a file, and under which names: wrappers around the model, and around the state dict.

A model that was compiled or trained on several devices has `_orig_mod` and `module` in the names of its entries, one
that is part of another has `model` or `generator` before them, in any order; newer code names the gain and direction
of weight normalization anew.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from q2d2.errors import printable, shown
from q2d2.tensors import FLOATS, short_name

PARTS = ("feature_extractor.", "backbone.", "head.")
WRAPPERS = ("state_dict", "model", "generator")
_ANYWHERE = {"_orig_mod", "module"}  # no entry of a published model has these in its name
_LEADING = {*WRAPPERS, *_ANYWHERE}
_WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
_DEPTH = 4
_WINDOW = "head.istft.window"


class LayoutError(ValueError):
    """A file that holds no published weights; the message says what it holds instead."""


@dataclass(frozen=True)
class FoundState:
    """A published state dict as it lay in a file.

    Attributes:
        tensors: under the published names, as they were stored.
        place: what it lay under, such as "model"; "the top" where it lay under nothing.
    """

    tensors: dict[str, Any]
    place: str


def find_state(content: Any) -> FoundState:
    """The published weights in what a file holds: at the top, or under `state_dict`, `model` or `generator`.

    Raises:
        LayoutError: there are none, or several; two entries get one name.
    """
    found = [FoundState(_renamed(mapping), place) for place, mapping in _mappings(content) if _is_codec(mapping)]
    if not found:
        raise LayoutError(
            f"no state_dict with entries {'*, '.join(PARTS[:-1])}* and {PARTS[-1]}*, neither at the top nor under "
            f"{', '.join(WRAPPERS)}: {_contents(content)}"
        )
    if len(found) > 1:
        places = " and ".join(each.place for each in found)
        raise LayoutError(f"weights of several codecs, under {places}: keep one of them in the file")
    return found[0]


def published_name(name: str) -> str:
    """`module.model.head._orig_mod.out.bias` -> `head.out.bias`."""
    pieces = [piece for piece in name.split(".") if piece not in _ANYWHERE]
    while pieces and pieces[0] in _LEADING:
        del pieces[0]
    plain = ".".join(pieces)
    for new, old in _WEIGHT_NORM.items():
        if plain.endswith("." + new):
            return plain.removesuffix(new) + old
    return plain


def as_float32(
    state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], dict[str, int]]:
    """The entries that `shapes` names as float32, where they are of another floating-point type.

    What has another shape stays as it is: a few bytes can claim a tensor of any size.

    Returns:
        the whole state, and how many entries were converted from which type.
    """
    converted: dict[str, int] = {}
    whole = dict(state)
    for name in sorted(shapes.keys() & state.keys()):
        tensor = state[name]
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shapes[name] or not _is_convertible(name, tensor):
            continue
        whole[name] = tensor.float()
        if name == _WINDOW and not tensor.is_meta:
            whole[name] = _exact_window(whole[name], torch.finfo(tensor.dtype).eps)
        dtype = short_name(tensor.dtype)
        converted[dtype] = converted.get(dtype, 0) + 1
    return whole, converted


def _is_convertible(name: str, tensor: Tensor) -> bool:
    # A codebook's flag may be one of true and false, as newer code keeps it.
    is_flag = name.endswith("._codebook.inited") and tensor.dtype == torch.bool
    return tensor.layout == torch.strided and (is_flag or tensor.dtype in FLOATS[1:])


def _exact_window(window: Tensor, rounding: float) -> Tensor:
    """The window that was rounded to another type, where that is what it is."""
    exact = torch.hann_window(len(window))
    return exact if torch.allclose(window, exact, atol=rounding) else window


def _mappings(content: Any, place: str = "the top", depth: int = 0) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    if not isinstance(content, Mapping) or depth == _DEPTH:
        return
    yield place, content
    for wrapper in WRAPPERS:
        if wrapper in content:
            inner = wrapper if depth == 0 else f"{place}.{wrapper}"
            yield from _mappings(content[wrapper], inner, depth + 1)


def _is_codec(mapping: Mapping[Any, Any]) -> bool:
    names = (str(name) for name, value in mapping.items() if not isinstance(value, Mapping))
    return any(published_name(name).startswith(PARTS) for name in names)


def _renamed(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, value in mapping.items():
        plain = published_name(str(name))
        if plain in renamed:
            raise LayoutError(
                f"two entries for {printable(plain)}: {printable(origin[plain])} and {printable(str(name))}"
            )
        renamed[plain], origin[plain] = value, str(name)
    return renamed


def _contents(content: Any) -> str:
    """What a file holds, for the message that it is not what was wanted."""
    if not isinstance(content, Mapping):
        return f"it holds {_kind(content)}"
    if not content:
        return "it holds an empty mapping"
    tops = [f"{printable(str(key))} ({_kind(value)})" for key, value in list(content.items())[:6]]
    more = f" and {len(content) - 6} more" if len(content) > 6 else ""
    text = f"at its top are {', '.join(tops)}{more}"
    names = {str(name): value for _, mapping in _mappings(content) for name, value in mapping.items()}
    tensors = {name: value for name, value in names.items() if isinstance(value, Tensor)}
    for _, mapping in ((key, value) for key, value in content.items() if isinstance(value, Mapping)):
        tensors |= {str(name): value for name, value in mapping.items() if isinstance(value, Tensor)}
    if tensors:
        few = ", ".join(f"{printable(name)} {shown(tuple(value.shape))}" for name, value in list(tensors.items())[:3])
        text += f"; its tensors are such as {few}"
        near = _nearest(tensors)
        text += f"; the nearest name is {printable(near)}" if near else ""
    return text


def _nearest(names: Mapping[str, Any]) -> str | None:
    """The name whose beginning is most like one of the published ones."""
    starts = {name.partition(".")[0]: name for name in reversed(list(names))}
    for part in PARTS:
        if close := difflib.get_close_matches(part.rstrip("."), [start[:80] for start in list(starts)[:1000]], n=1):
            return starts.get(close[0])
    return None


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return f"mapping of {len(value):,}"
    if isinstance(value, Tensor):
        return f"tensor {shown(tuple(value.shape))}"
    return f"{type(value).__name__} of {len(value):,}" if isinstance(value, (list, tuple)) else type(value).__name__
