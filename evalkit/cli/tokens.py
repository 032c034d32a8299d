"""Commands that use a codec: audio files into token files and back. Imports as in cli.py."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from evalkit.tokens.file_jobs import Job, Worker
    from q2d2.codec import Codec
    from q2d2.tokens import CodecIdentity

tokens_app = typer.Typer(rich_markup_mode=None)

# On a CPU batches do not help. On a GPU: about 20 MB a second of audio at the published size.
GPU_BATCH_SECONDS = 120.0


class TokenFormat(StrEnum):
    """Layouts of token files."""

    safetensors = "safetensors"
    npz = "npz"


class AudioFormat(StrEnum):
    """Kinds of audio files to write."""

    flac = "flac"
    wav = "wav"


class OutputRate(StrEnum):
    """Sample rates of decoded audio."""

    codec = "codec"
    original = "original"


CodecOption = Annotated[
    str, typer.Option(metavar="CHECKPOINT", help="Folder of a checkpoint, or the name of one that ships.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
BatchSeconds = Annotated[
    float | None,
    typer.Option(
        help="Seconds of audio computed together, of equally long files; default: one file at a time on a CPU, "
        f"{GPU_BATCH_SECONDS:.0f} on a GPU.",
        min=0,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists, whatever it is.")]


@tokens_app.command(
    epilog="Examples:  evalkit encode speech/ --codec runs/tiny/checkpoints/rhombic -o tokens  |  "
    "evalkit encode a.wav b.mp3 --codec my-codec -o tokens --format npz"
)
def encode(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Audio files, or folders of them.")],
    codec: CodecOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the token files.")],
    format_: Annotated[TokenFormat, typer.Option("--format", help="Layout of the token files.")] = (
        TokenFormat.safetensors
    ),
    device: Device = "auto",
    batch_seconds: BatchSeconds = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn audio files of any length into token files.

    The tree of a folder is kept below --out. Several channels are averaged, other sample rates converted. Run the same
    command again after an interruption: files that are finished are skipped. A file that fails is named and the others
    go on; the exit status is then 1.
    """
    from evalkit.datasets.corpus import find_audio
    from evalkit.tokens.coding import Encoding
    from evalkit.tokens.file_jobs import plan_jobs

    jobs = plan_jobs(files, out, f".{format_.value}", find_audio, "audio")
    loaded, identity, chosen = _load(codec, device)
    worker = Encoding(loaded, identity, overwrite=overwrite)
    _run("encode", worker, jobs, _batch_seconds(batch_seconds, chosen), loaded)


@tokens_app.command(
    epilog="Examples:  evalkit decode tokens/ --codec runs/tiny/checkpoints/rhombic -o decoded  |  "
    "evalkit decode tokens/a.npz --codec my-codec -o decoded --format wav --rate original"
)
def decode(
    tokens: Annotated[list[Path], typer.Argument(metavar="TOKENS", help="Token files, or folders of them.")],
    codec: CodecOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the audio files.")],
    format_: Annotated[
        AudioFormat, typer.Option("--format", help="flac: 16 bits, clipped to the range; wav: 32-bit float.")
    ] = AudioFormat.flac,
    rate: Annotated[
        OutputRate, typer.Option(help="The codec's sample rate, or that of the original with its number of samples.")
    ] = OutputRate.codec,
    device: Device = "auto",
    batch_seconds: BatchSeconds = None,
    overwrite: Overwrite = False,
    force: Annotated[
        bool, typer.Option("--force", help="Decode tokens of another codec, if codebooks are equal.")
    ] = False,
) -> None:
    """Turn token files back into audio files, each exactly as long as the original.

    Tokens are decoded by the codec that made them. Recordings up to a minute are decoded whole, longer ones in
    overlapping windows. Otherwise as `evalkit encode`.
    """
    from evalkit.tokens.coding import Decoding
    from evalkit.tokens.file_jobs import plan_jobs

    jobs = plan_jobs(tokens, out, f".{format_.value}", _find_tokens, "token files")
    loaded, identity, chosen = _load(codec, device)
    together = _batch_seconds(batch_seconds, chosen)
    worker = Decoding(
        loaded,
        identity,
        original_rate=rate is OutputRate.original,
        batch_seconds=together,
        overwrite=overwrite,
        force=force,
    )
    _run("decode", worker, jobs, together, loaded)


def _find_tokens(folder: Path) -> Iterator[Path]:
    from q2d2.tokens import SUFFIXES

    yield from sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())


def _load(source: str, device: str) -> tuple[Codec, CodecIdentity, torch.device]:
    from evalkit.machine import select_device
    from q2d2.checkpoints import load_codec
    from q2d2.codec.inference import prepare_for_inference
    from q2d2.tokens import identify_codec

    chosen = select_device(device)
    identity = identify_codec(source)
    return prepare_for_inference(load_codec(source).to(chosen)), identity, chosen


def _batch_seconds(asked: float | None, device: torch.device) -> float:
    if asked is not None:
        return asked
    return 0.0 if device.type == "cpu" else GPU_BATCH_SECONDS


def _run(verb: str, worker: Worker[Any], jobs: list[Job], batch_seconds: float, codec: Codec) -> None:
    """Do the jobs under a progress bar and print what came of them; exit status 1 if one failed."""
    from evalkit.cli.terminal import Terminal
    from evalkit.tokens.file_jobs import FileJobs, FileProgress

    console = Terminal()
    with FileProgress(verb, console) as progress:
        summary = FileJobs(worker, batch_seconds, progress).run(jobs)
    parts = [f"{summary.done:,} file{'' if summary.done == 1 else 's'} {verb}d"]
    if summary.done:
        speed = summary.wall_seconds / summary.audio_seconds
        duration = _duration(summary.audio_seconds)
        parts.append(f"{duration} at {codec.bitrate / 1000:.2f} kbit/s, real-time factor {speed:.3f}")
    if summary.skipped:
        parts.append(f"{summary.skipped:,} finished before")
    if summary.failures:
        parts.append(f"{len(summary.failures):,} failed")
    console.print("; ".join(parts), markup=False, highlight=False, soft_wrap=True)
    if summary.failures:
        raise typer.Exit(1)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.2f} hours"
