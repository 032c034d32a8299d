"""Commands for what lies on disk beside the runs: corpora, weights, the cache of scores; and what can run with them.

Imports as in cli.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.options import TrustCode

if TYPE_CHECKING:
    from evalkit.datasets import Problem

data_app = typer.Typer(help="Download and inspect speech corpora.", no_args_is_help=True, rich_markup_mode=None)
weights_app = typer.Typer(
    help="Download and list the weights that metrics and whole codecs need.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
cache_app = typer.Typer(
    help="The cache of scores: its size, and emptying it.", no_args_is_help=True, rich_markup_mode=None
)

doctor_app = typer.Typer(rich_markup_mode=None)

WeightsRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=lambda text: Path(text).expanduser(),
        help="Folder of whole codecs' weights: DIR/NAME, or a cache of the hub. Default: the hub's cache (HF_HOME).",
    ),
]


@data_app.command("fetch", epilog="Example:  evalkit data fetch librispeech --part test-clean --to ~/corpora")
def fetch_command(
    dataset: Annotated[str, typer.Argument(help="librispeech, libritts or ljspeech.")],
    part: Annotated[str | None, typer.Option(help="Part of the corpus, such as test-clean.")] = None,
    to: Annotated[Path, typer.Option(help="Folder that receives the corpus.")] = Path("corpora"),
) -> None:
    """Download a corpus, verify its published checksum and unpack it.

    Run the same command again after an interruption: the download goes on where it stopped.
    """
    from evalkit.datasets.fetch import fetch
    from evalkit.downloads.transfer import progress_bar

    with progress_bar() as progress:
        fetched = fetch(dataset, part, to, progress)
    typer.echo(str(fetched))


@data_app.command("check", epilog="Example:  evalkit data check librispeech --part test-clean --root ~/corpora")
def check_command(
    dataset: Annotated[str, typer.Argument(help="A dataset's name.")],
    part: Annotated[str | None, typer.Option(help="Part of the corpus; default: the dataset's own.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the corpus; default: EVALKIT_<DATASET>_ROOT.")] = None,
) -> None:
    """Read every file of a corpus and name those that are damaged, empty, too short or silent."""
    from evalkit.datasets import check_corpus, load_corpus

    corpus = load_corpus(dataset, part, root)
    typer.echo(corpus.describe())
    problems = [problem for problem in check_corpus(corpus) if problem not in corpus.problems]
    typer.echo(f"decoded: {len(corpus.utterances):,}, of which unusable: {len(problems):,}")
    for problem in problems:
        typer.echo(f"  {problem}")
    if problems or corpus.problems:
        raise typer.Exit(1)


@data_app.command(
    "index",
    epilog="Examples:  evalkit data index librispeech:train-clean-100 librispeech:dev-clean -o train.arrow  |  "
    "evalkit data index libritts:dev-clean@~/corpora ~/podcasts -o train.arrow  |  "
    "evalkit data index files.csv -o train.arrow",
)
def index_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Dataset (NAME, NAME:PART or NAME:PART@ROOT), folder, or CSV with the columns path and, if known, "
            "frames and sample_rate.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, such as train.arrow.")],
) -> None:
    """Write a manifest: an index of audio files that opens at once, for training on millions of them.

    Headers are read once, here. Files that cannot be used are named and left out. Train on it with
    data.train: [{name: manifest, root: train.arrow}].
    """
    from evalkit.datasets.index import index_bar, index_files

    missing = 0
    with index_bar() as (show_left_out, progress):

        def left_out(problem: Problem) -> None:
            nonlocal missing
            missing += 1
            show_left_out(problem)

        manifest = index_files(out, sources, left_out, progress)
    count = f"{len(manifest):,} file{'' if len(manifest) == 1 else 's'}"
    typer.echo(f"{out}: {count}, {manifest.seconds / 3600:,.2f} hours; left out: {missing:,}")


@weights_app.command(
    "fetch",
    epilog="Examples:  evalkit weights fetch utmos  |  evalkit weights fetch mimi --weights-root ~/codecs",
)
def weights_fetch(
    name: Annotated[str, typer.Argument(help="A metric or a whole codec; see `evalkit weights list`.")],
    weights_root: WeightsRoot = None,
    trust_code: TrustCode = False,
) -> None:
    """Download the weights of a metric or a whole codec and verify them.

    Run the same command again after an interruption: the download goes on where it stopped. What is there already is
    compared with the published hashes, and only what is missing or damaged is downloaded.
    """
    from contextlib import ExitStack

    from evalkit.doctor.weights import fetch_weights
    from evalkit.downloads.transfer import Progress, progress_bar

    with ExitStack() as bars:
        shown: Progress | None = None

        def progress(stage: str, done: int, total: int | None) -> None:
            nonlocal shown
            if shown is None:  # only now: the hub's library has a bar of its own, which another one would break
                shown = bars.enter_context(progress_bar())
            shown(stage, done, total)

        fetched = fetch_weights(name, progress, root=weights_root, trust_code=trust_code)
    typer.echo(str(fetched))


@weights_app.command("list", epilog="Example:  evalkit weights list --weights-root ~/codecs")
def weights_list(weights_root: WeightsRoot = None) -> None:
    """List the weights that metrics and whole codecs need, which are here, and what would be fetched from where.

    Files of metrics that are here are read and compared with their checksum.
    """
    from evalkit.doctor.weights import list_weights

    for row in list_weights(root=weights_root):
        typer.echo(str(row))


@cache_app.command("info")
def cache_info() -> None:
    """Show where the cache of scores is and how much it holds."""
    from evalkit.scoring.cache import Cache

    cache = Cache.from_environment()
    info = cache.info()
    if cache.problem:
        typer.echo(f"not in use: {cache.problem}")
        raise typer.Exit(1)
    typer.echo(f"{info.path}: {info.entries:,} entries, {info.bytes / 1e6:,.1f} of {info.max_bytes / 1e6:,.0f} MB")
    if info.oldest and info.newest:
        typer.echo(f"last used between {info.oldest:%Y-%m-%d %H:%M} and {info.newest:%Y-%m-%d %H:%M} UTC")


@cache_app.command("clear")
def cache_clear() -> None:
    """Remove every score and analysis from the cache; runs keep theirs."""
    from evalkit.scoring.cache import Cache

    typer.echo(f"{Cache.from_environment().clear():,} entries removed")


@doctor_app.command(
    epilog="Examples:  evalkit doctor  |  evalkit doctor --json --weights-root ~/codecs  |  "
    "evalkit doctor --require utmos --require mimi --require librispeech:test-other"
)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    weights_root: WeightsRoot = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Exit with 1 if this metric, whole codec or dataset (NAME or NAME:PART) is missing; may be repeated.",
        ),
    ] = None,
) -> None:
    """Show what can run on this machine, and how to get what is missing.

    Devices, metrics, whole codecs and their weights, datasets, and the cache of scores. It needs no network and writes
    nothing. Of a dataset its default part is looked for below EVALKIT_<NAME>_ROOT; the files are not read.
    """
    import json

    from evalkit.doctor.diagnosis import examine

    report = examine(weights_root, require or [])
    typer.echo(json.dumps(report.as_json(), indent=2) if as_json else "\n".join(report.lines()))
    report.require(require or [])
