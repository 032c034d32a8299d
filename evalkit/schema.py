"""The strict base of every file of ours, in YAML or JSON, and the one line that says what is wrong with one."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from q2d2.errors import UserError, did_you_mean, printable, shown
from q2d2.plain_values import MAX_JSON_BYTES, NotPlain, read_json, require_plain
from q2d2.yaml_values import parse_yaml, read_yaml

MAX_NAMED = 5  # mistakes in one message
MAX_KNOWN = 40  # keys that a message lists
MAX_MESSAGE = 300
# Names of experiments and systems become those of folders and files.
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MAX_NAME = 200
MAX_COUNT = 10**9

WRONG_KIND = "wrong_kind"

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Known keys alone, true and false for nothing but themselves, no NaN and no infinity."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name, hint in _fields(cls).items():
                if name in values:
                    require_kind(values[name], hint, name)
        return values


class Described(Strict):
    """Of what evalkit itself wrote: a later version's further keys are left alone."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


def validated(model: type[Model], values: Any, where: str, error: Callable[[str], UserError]) -> Model:
    """Plain values as a `model`.

    Args:
        model: of the file.
        values: as they were read.
        where: what they are, for messages: "experiment tiny".
        error: what is raised.

    Raises:
        UserError: `error`, in one line: where, the key, what was expected and what was found.
    """
    try:
        require_plain(values)
        return model.model_validate(values)
    except NotPlain as problem:
        raise error(f"{where}: {problem}") from problem
    except ValidationError as problem:
        raise error(f"{where}: {describe(problem, model)}") from problem


def read_described(path: Path, error: Callable[[str], UserError], max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The keys and values of a JSON file that evalkit wrote.

    Raises:
        UserError: `error`: it cannot be read, is damaged, or holds something else.
        FileNotFoundError, NotADirectoryError: it is not there.
    """
    try:
        values = read_json(path, max_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    except NotPlain as problem:
        raise error(f"{path} cannot be read: it {problem}") from problem
    if not isinstance(values, dict):
        raise error(f"{path} cannot be read: expected keys and values, found {type(values).__name__}")
    return values


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with values that are no `model`: a clause a mistake, the first ones."""
    mistakes = error.errors(include_url=False)
    clauses = list(dict.fromkeys(_clause(mistake, model) for mistake in mistakes[:MAX_NAMED]))
    further = len(mistakes) - MAX_NAMED
    return "; ".join(clauses) + (f"; and {further:,} more" if further > 0 else "")


def _clause(error: Any, model: type[BaseModel]) -> str:
    """One of pydantic's errors: the key, what is wrong with it, and what was given."""
    *parents, last = error["loc"] or ("",)
    key = printable(".".join(str(part) for part in error["loc"])) if error["loc"] else ""
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = known_keys(model, parents)
        listed = ", ".join(known[:MAX_KNOWN])
        return f"{key} is not a known key.{did_you_mean(str(last), known)} Known: {listed}."
    if error["type"] == WRONG_KIND:
        key = printable(".".join([*(str(part) for part in error["loc"]), error["ctx"]["key"]]))
        return f"{key}: {error['msg']}"
    message = " ".join(error["msg"].removeprefix("Value error, ").split())
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}..."
    if key and message.startswith((f"{key}.", f"{key}: ")):
        return message
    given = "" if error["type"] in ("missing", "value_error") else f" (given: {shown(error['input'])})"
    return f"{key}: {message}{given}" if key else f"{message}{given}"


def known_keys(model: type[BaseModel], where: Sequence[str | int]) -> list[str]:
    """The keys that values of a `model` may have at a place, as pydantic names it."""
    kinds: list[Any] = [model]
    for part in where:
        several = len(kinds) > 1  # then pydantic says which is meant, by the value that tells them apart
        meant = [kind for kind in kinds if several and _is_tag(kind, part)]
        kinds = meant or [inner for kind in kinds for inner in _at(kind, part)]
    return list(dict.fromkeys(name for kind in kinds for name in _fields(kind)))


def _at(kind: Any, part: str | int) -> list[Any]:
    """What may be at one key, or number, of a kind."""
    if fields := _fields(kind):
        return _kinds(fields[str(part)]) if str(part) in fields else []
    if get_origin(kind) in (dict, list, tuple):
        return _kinds(next(inner for inner in reversed(get_args(kind)) if inner is not Ellipsis))
    return []


def _is_tag(kind: Any, part: str | int) -> bool:
    """Whether `part` is no key but the value that tells this model from others."""
    return any(part in get_args(each) for each in _fields(kind).values() if get_origin(each) is Literal)


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return get_type_hints(kind)
    return {}


def _kinds(hint: Any) -> list[Any]:
    """The kinds that a type hint allows."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _kinds(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return [kind for inner in get_args(hint) for kind in _kinds(inner)]
    return [hint]


def require_kind(value: Any, hint: Any, key: str) -> None:
    """Refuse true where a number belongs, which Python takes for 1, and a number or "yes" where true or false does.

    Args:
        value: plain.
        hint: the type hint of its place.
        key: dotted, of the value.

    Raises:
        PydanticCustomError: with the key, what was expected and what was found.
    """
    kinds = _kinds(hint)
    if Any in kinds:
        return
    if isinstance(value, bool):
        if bool not in kinds and (int in kinds or float in kinds):
            raise _wrong_kind(key, "a number", value)
    elif isinstance(value, (dict, list, tuple)):
        for name, inner in _items(value):
            for kind in kinds:
                has_keys = dataclasses.is_dataclass(kind) or get_origin(kind) is dict
                if has_keys == isinstance(value, dict) and (wanted := tuple(_at(kind, name))):
                    require_kind(inner, Union[wanted], f"{key}.{name}")  # noqa: UP007
    elif value is not None and kinds == [bool]:
        raise _wrong_kind(key, "true or false", value)


def _wrong_kind(key: str, expected: str, value: Any) -> PydanticCustomError:
    found = str(value).lower() if isinstance(value, bool) else shown(value)
    context = {"key": key, "expected": expected, "found": found}
    return PydanticCustomError(WRONG_KIND, "expected {expected}, found {found}", context)


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, dict) else enumerate(value)


@dataclass(frozen=True)
class YamlSources:
    """Where files of a kind are read from.

    Attributes:
        kind: for messages: "experiment".
        folder: of those that ship.
        error: what is raised; its message names the file and the way out.
        suffix: of the names of those that ship.
    """

    kind: str
    folder: Traversable
    error: type[UserError]
    suffix: str = ".yaml"

    def names(self) -> list[str]:
        """Of the files that ship with the package, without ".yaml"."""
        found = [entry.name for entry in self.folder.iterdir() if entry.name.endswith(self.suffix)]
        return sorted(name.removesuffix(".yaml") for name in found)

    def read(self, source: str) -> dict[str, Any]:
        """The keys and values of a built-in file or a user's own, not validated.

        Args:
            source: a built-in name, or the path of a YAML file.

        Raises:
            UserError: `error`: not found, not text, or not YAML with keys.
        """
        try:
            path = Path(source)
            if path.suffix in (".yaml", ".yml") or (path.exists() and not path.is_dir()):
                values = read_yaml(path)
            elif source in self.names():
                values = parse_yaml((self.folder / f"{source}.yaml").read_text(encoding="utf-8"))
            else:
                known = self.names()
                raise self.error(
                    f"no {self.kind} {shown(source)}.{did_you_mean(source, known)} Built in: {', '.join(known)}; "
                    "or give the path of a YAML file."
                )
        except OSError as error:
            raise self.error(f"{self.kind} file {source} cannot be read: {error.strerror}") from error
        except NotPlain as error:
            raise self.error(f"{self.kind} file {source} {error}") from error
        if not isinstance(values, dict):
            raise self.error(f"{self.kind} {source}: expected keys and values, found {type(values).__name__}")
        return values
