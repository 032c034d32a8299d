"""The YAML files of the published models: what a codec has to be built with to hold their weights, and the way back.

Two shapes are read: that of the published training command, with the model under `model.init_args`, and that of their
`from_hparams`, with `feature_extractor`, `backbone` and `head` at the top. What the published classes would fill with
a default that decides which model it is (tiling, levels, ratios) has to be there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from q2d2.bottleneck import BOTTLENECKS
from q2d2.checkpoints import full_spec
from q2d2.codec import Codec, CodecConfig
from q2d2.errors import UserError, did_you_mean
from q2d2.plain_values import NotPlain
from q2d2.yaml_values import read_yaml

FAMILIES = ("wavtokenizer", "q2d2")
TILINGS = {"rectangle": "rectangular", "rhombic": "rhombic", "hexagon": "hexagonal"}  # the published name: ours
# The published feature extractor builds its encoder with these, whatever the file says.
FIXED = {"num_filters": 32, "dimension": 512, "lstm_layers": 2}
_CLASSES = {"feature_extractor": "EncodecFeatures", "backbone": "VocosBackbone", "head": "ISTFTHead"}
_KMEANS = 200  # of both published WavTokenizer configurations
_BANDWIDTH = 6.6  # theirs too; all bandwidths are this one and no forward pass depends on it


class PublishedConfigError(UserError, ValueError):
    """A YAML file that describes no codec that can be built here, or a codec that no such file describes."""


@dataclass(frozen=True)
class PublishedConfig:
    """What a published model is built with.

    Attributes:
        family: "wavtokenizer" or "q2d2".
        backbone: sizes of encoder, decoder and head.
        bottleneck: name and options as `q2d2.bottleneck.build_bottleneck` takes them.
    """

    family: str
    backbone: CodecConfig
    bottleneck: dict[str, Any]

    def to_yaml(self) -> str:
        """The file that the published code and `read_published_config` take.

        It holds the section `model`; data and trainer, which training needs too, are the user's.
        """
        backbone, bottleneck = self.backbone, self.bottleneck
        features: dict[str, Any] = {
            "encodec_model": "encodec_24khz",
            "bandwidths": [_BANDWIDTH] * backbone.num_embeddings,
            "train_codebooks": True,
            "num_quantizers": 1,
            "dowmsamples": list(backbone.ratios),
            "vq_kmeans": bottleneck.get("kmeans_iters", _KMEANS),
        }
        if self.family == "q2d2":
            published = {ours: theirs for theirs, ours in TILINGS.items()}
            features |= {"vq_type": published[bottleneck["tiling"]], "codebook_dim": list(bottleneck["levels"])}
        else:
            features["vq_bins"] = bottleneck["codebook_size"]
        decoder = {
            "input_channels": backbone.dimension,
            "dim": backbone.decoder_dim,
            "intermediate_dim": backbone.decoder_intermediate,
            "num_layers": backbone.decoder_layers,
            "adanorm_num_embeddings": backbone.num_embeddings,
        }
        hop = backbone.hop_length
        head = {"dim": backbone.decoder_dim, "n_fft": 4 * hop, "hop_length": hop, "padding": "same"}
        model = {
            "sample_rate": backbone.sample_rate,
            "resume": False,
            "resume_config": "",
            "resume_model": "",
            "feature_extractor": {"class_path": "decoder.feature_extractors.EncodecFeatures", "init_args": features},
            "backbone": {"class_path": "decoder.models.VocosBackbone", "init_args": decoder},
            "head": {"class_path": "decoder.heads.ISTFTHead", "init_args": head},
        }
        whole = {"model": {"class_path": "decoder.experiment.WavTokenizer", "init_args": model}}
        return yaml.safe_dump(whole, sort_keys=False, default_flow_style=None, width=120)


def read_published_config(path: Path, family: str) -> PublishedConfig:
    """Read the YAML file of a published model of the given family.

    Raises:
        PublishedConfigError: unknown family; a file that cannot be read; a key that is missing, unknown or out of
            range, or contradicts another: the message names keys and values.
    """
    if family not in FAMILIES:
        raise PublishedConfigError(f"unknown family {family!r}: expected one of {', '.join(FAMILIES)}")
    try:
        content: Any = read_yaml(path)
    except OSError as error:
        raise PublishedConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except NotPlain as error:
        raise PublishedConfigError(f"{path} {error}") from error
    return _Reader(path, family).read(content)


def published_config(codec: Codec) -> PublishedConfig:
    """The configuration under which the published code builds a model that takes the weights of `codec`.

    Raises:
        PublishedConfigError: it can build none; the message names what it lacks.
    """
    sizes = codec.config.to_dict()
    other = [f"{key} {sizes[key]} (it has {value})" for key, value in FIXED.items() if sizes[key] != value]
    if other:
        raise PublishedConfigError(f"the published code cannot build this codec: {', '.join(other)}")
    spec = full_spec(codec.bottleneck)
    name = spec["name"]
    if name == "vq" and spec["codebook_dim"] is None:
        return PublishedConfig("wavtokenizer", codec.config, spec)
    if name == "q2d2":
        tiling, levels = spec["tiling"], spec["levels"]
        if tiling not in TILINGS.values():
            raise PublishedConfigError(
                f"tiling {tiling!r} is in no published model: they have {', '.join(TILINGS.values())}"
            )
        if problem := _levels_problem(tiling, levels):
            raise PublishedConfigError(problem)
        return PublishedConfig("q2d2", codec.config, spec)
    what = "vq with codebook_dim" if name == "vq" else f"bottleneck {BOTTLENECKS.current(name)!r}"
    raise PublishedConfigError(
        f"{what} is in no published model: they have vq with one codebook as wide as the latents, or q2d2"
    )


def _levels_problem(tiling: str, levels: Sequence[int]) -> str | None:
    """Why the published quantizer with these levels is another one than ours, or does not run; None where it is ours.

    As read in its source: pairs share one grid basis that a single pair never gets; rhombic asserts odd levels; codes
    are divided by level // 2, which for even levels is not half the span; hexagon builds its rows from the x level.
    """
    shown = f"levels {list(levels)}"
    if len(levels) < 4 or len(levels) % 2:
        return f"{shown}: the published quantizer needs an even number of at least 4 levels"
    if even := [level for level in levels if level % 2 == 0 or level < 3]:
        return (
            f"{shown}: {even[0]} is not odd and above 1; the published code scales even levels otherwise than this one"
        )
    if tiling == "hexagonal" and list(levels[::2]) != list(levels[1::2]):
        return f"{shown}: the published hexagon ignores the second level of a pair, so both must be equal"
    return None


class _Reader:
    """Takes the sections of one file apart; every message starts with the file's name."""

    def __init__(self, path: Path, family: str) -> None:
        self.path = path
        self.family = family

    def read(self, content: Any) -> PublishedConfig:
        model, where = self._model(content)
        extractor, decoder, head = (self._arguments(model, name, where) for name in _CLASSES)
        other = "vq_type" if self.family == "wavtokenizer" else "vq_bins"
        if other in extractor.given and not {"vq_type", "vq_bins"} <= extractor.given.keys():
            right = next(family for family in FAMILIES if family != self.family)
            self.fail(f"{extractor.where} has {other}, as the models of {right} have: import it as {right}")

        ratios = extractor.integers("dowmsamples", "[8, 5, 4, 2]")
        extractor.fixed("encodec_model", "encodec_24khz")
        extractor.fixed("num_quantizers", 1)
        kmeans = extractor.integer("vq_kmeans", _KMEANS)
        extractor.ignored("bandwidths", "train_codebooks")
        bottleneck = self._q2d2(extractor) if self.family == "q2d2" else self._vq(extractor, kmeans)
        extractor.finish()

        decoder.fixed("input_channels", FIXED["dimension"])
        dim, intermediate, layers, embeddings = (
            decoder.integer(key) for key in ("dim", "intermediate_dim", "num_layers", "adanorm_num_embeddings")
        )
        decoder.ignored("layer_scale_init_value")  # where training starts from
        decoder.finish()

        head_dim, n_fft, hop = (head.integer(key) for key in ("dim", "n_fft", "hop_length"))
        head.fixed("padding", "same")
        head.finish()

        sample_rate = model.get("sample_rate", 24000)
        if type(sample_rate) is not int or sample_rate < 1:
            self.fail(f"sample_rate is {sample_rate!r}: expected a number of Hz")
        try:
            backbone = CodecConfig(
                sample_rate=sample_rate, ratios=ratios, decoder_dim=dim, decoder_intermediate=intermediate,
                decoder_layers=layers, num_embeddings=embeddings, **FIXED,
            )  # fmt: skip
        except ValueError as error:
            self.fail(str(error))
        if hop != backbone.hop_length:
            self.fail(
                f"head.hop_length is {hop}, but feature_extractor.dowmsamples {list(ratios)} make {backbone.hop_length}"
            )
        if n_fft != 4 * hop:
            self.fail(f"head.n_fft is {n_fft}: expected four hops of {hop}, {4 * hop}")
        if head_dim != dim:
            self.fail(f"head.dim is {head_dim}, but backbone.dim is {dim}")
        return PublishedConfig(self.family, backbone, bottleneck)

    def fail(self, message: str) -> NoReturn:
        raise PublishedConfigError(f"{self.path}: {message}")

    def _vq(self, extractor: _Arguments, kmeans: int) -> dict[str, Any]:
        # Dead codes are never replaced in the published training: its restart is overwritten in the same step.
        return {
            "name": "vq", "codebook_size": extractor.integer("vq_bins"), "kmeans_iters": kmeans,
            "dead_code_fraction": 0.0,
        }  # fmt: skip

    def _q2d2(self, extractor: _Arguments) -> dict[str, Any]:
        known = ", ".join(TILINGS)
        published = extractor.take("vq_type", f"one of {known}")
        if not isinstance(published, str) or published not in TILINGS:
            close = difflib.get_close_matches(str(published), [*TILINGS, *TILINGS.values()], n=1)
            ours = {ours: theirs for theirs, ours in TILINGS.items()}
            hint = f" Did you mean {ours.get(close[0], close[0])!r}?" if close else ""
            self.fail(f"{extractor.where}.vq_type is {published!r}: unknown tiling.{hint} Known: {known}")
        levels = extractor.integers("codebook_dim", "[9, 9, 7, 7, 7, 7]: the levels, one a channel")
        if problem := _levels_problem(TILINGS[published], levels):
            self.fail(f"{extractor.where}.codebook_dim: {problem}")
        return {"name": "q2d2", "tiling": TILINGS[published], "levels": list(levels), "gradient": "published"}

    def _model(self, content: Any) -> tuple[Mapping[str, Any], str]:
        """The mapping that holds the three sections, and its place in the file as a prefix of their names."""
        if not isinstance(content, dict):
            self.fail(f"expected a mapping with 'model' or {', '.join(_CLASSES)}, found {type(content).__name__}")
        if "model" not in content:
            return content, ""
        model = content["model"]
        if not isinstance(model, dict) or not isinstance(model.get("init_args"), dict):
            self.fail("model has no mapping init_args")
        if not str(model.get("class_path", "")).endswith(".WavTokenizer"):
            self.fail(f"model.class_path is {model.get('class_path')!r}: expected decoder.experiment.WavTokenizer")
        return model["init_args"], "model.init_args."

    def _arguments(self, model: Mapping[str, Any], name: str, where: str) -> _Arguments:
        section = model.get(name)
        if not isinstance(section, dict) or not isinstance(section.get("init_args"), dict):
            self.fail(f"{where}{name} is missing, or has no mapping init_args")
        if str(section.get("class_path")).rpartition(".")[2] != _CLASSES[name]:
            self.fail(f"{where}{name}.class_path is {section.get('class_path')!r}: expected a class {_CLASSES[name]}")
        return _Arguments(self, f"{where}{name}.init_args", section["init_args"])


class _Arguments:
    """The arguments of one class, each asked for once; what nobody asked for is a mistake (see `finish`)."""

    def __init__(self, reader: _Reader, where: str, given: Mapping[str, Any]) -> None:
        self._reader = reader
        self._asked: list[str] = []
        self.where = where
        self.given = given

    def take(self, key: str, expected: str) -> Any:
        self._asked.append(key)
        if key not in self.given:
            close = difflib.get_close_matches(key, self.given, n=1)
            hint = f", but has {close[0]!r}" if close else ""
            self._reader.fail(f"{self.where} lacks {key}{hint}: expected {expected}")
        return self.given[key]

    def integer(self, key: str, default: int | None = None) -> int:
        value = default if default is not None and key not in self.given else self.take(key, "a positive integer")
        self._asked.append(key)
        if type(value) is not int or value < 1:
            self._reader.fail(f"{self.where}.{key} is {value!r}: expected a positive integer")
        return value

    def integers(self, key: str, expected: str) -> tuple[int, ...]:
        value = self.take(key, expected)
        if not isinstance(value, list) or not value or any(type(item) is not int or item < 1 for item in value):
            self._reader.fail(f"{self.where}.{key} is {value!r}: expected positive integers such as {expected}")
        return tuple(value)

    def fixed(self, key: str, only: object) -> None:
        self._asked.append(key)
        value = self.given.get(key, only)
        if type(value) is not type(only) or value != only:
            self._reader.fail(f"{self.where}.{key} is {value!r}: only {only!r} is known here")

    def ignored(self, *keys: str) -> None:
        self._asked += keys

    def finish(self) -> None:
        for key in self.given:
            if key not in self._asked:
                hint = did_you_mean(str(key), self._asked)
                self._reader.fail(f"{self.where} has an unknown key {key!r}.{hint}")
