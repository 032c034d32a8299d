"""Commands for checkpoints: published files in and out, push to and pull from a hub. Imports as in cli.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

checkpoints_app = typer.Typer(rich_markup_mode=None)

Checkpoint = Annotated[str, typer.Argument(help="A checkpoint folder, or the name of one that ships.")]
Repo = Annotated[str, typer.Option(metavar="OWNER/NAME", help="Repository on the hub.")]


@checkpoints_app.command(
    "import",
    epilog="Examples:  evalkit import wavtokenizer wavtokenizer.ckpt --config wavtokenizer.yaml  |  "
    "evalkit import q2d2 q2d2-3k.ckpt --config q2d2-3k.yaml -o runs/imported/q2d2-3k",
)
def import_command(
    family: Annotated[str, typer.Argument(help="wavtokenizer or q2d2.")],
    file: Annotated[Path, typer.Argument(help="The published .ckpt.")],
    config: Annotated[Path, typer.Option(help="Its YAML; tiling and levels of Q2D2 come from it.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the checkpoint; default: runs/imported/NAME_OF_FILE.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite another checkpoint in the folder.")] = False,
) -> None:
    """Read a published checkpoint, strictly, and write it as a checkpoint folder.

    Every published entry must be there with its shape, also those that no forward pass uses; these are kept for
    `evalkit export`. Discriminators are left out. Weights under model or generator, names of a wrapped model (module.,
    _orig_mod., model.) and float16, bfloat16 or float64 are taken, and what was converted is printed.
    """
    from q2d2.model_card import codec_facts
    from q2d2.published_files import import_checkpoint

    done = import_checkpoint(family, file, config, out or Path("runs/imported") / file.stem, replace=force)
    place = "" if done.place in ("the top", "state_dict") else f", weights under {done.place}"
    converted = ", ".join(f"{count:,} from {dtype}" for dtype, count in done.converted.items())
    _print(
        {
            "read": f"{file} (sha256 {done.file_sha256}){place}",
            **({"converted": f"to float32: {converted}"} if converted else {}),
            **codec_facts(done.codec),
            "entries": f"{done.num_read} read, {done.num_unused} of them unused and kept for export; "
            f"{done.num_training:,} of training left out",
            "written": f"{done.folder} (sha256 {done.weights_sha256})",
        }
    )


@checkpoints_app.command(
    epilog="Example:  evalkit export runs/imported/q2d2-3k -o exported/q2d2-3k.ckpt --config-out exported/q2d2-3k.yaml"
)
def export(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .ckpt to write.")],
    config_out: Annotated[
        Path | None, typer.Option(help="The YAML to write; default: beside the .ckpt, with the suffix .yaml.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Write a checkpoint as the .ckpt and YAML that the published code loads.

    An imported checkpoint gives back all entries, equal to the bit; one trained here gets fillers for those that no
    forward pass uses. What no published model has (unquantized, fsq, rvq, other sizes of the encoder) is refused.
    """
    from q2d2.published_files import export_checkpoint

    done = export_checkpoint(checkpoint, out, config_out, replace=force)
    unused = "as they were imported" if done.kept_unused else "fillers"
    _print(
        {
            "written": f"{done.file} (sha256 {done.sha256})",
            "entries": f"{done.num_entries}; those that no forward pass uses are {unused}",
            "config": str(done.config),
        }
    )


@checkpoints_app.command(
    epilog="Examples:  evalkit push runs/mine/checkpoints/rhombic --repo me/rhombic --private  |  "
    "HF_TOKEN=... evalkit push tiny --repo me/tiny"
)
def push(
    checkpoint: Checkpoint,
    repo: Repo,
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; default: main. Created if it does not exist.")] = None,
) -> None:
    """Upload a checkpoint to the hub in one commit, and compare what the hub then holds by hash.

    The repository is created if it does not exist. A README.md in the folder goes with it; otherwise one is made from
    codec.json, unless the repository has one. Needs a token with write permission: HF_TOKEN, or `hf auth login`.
    """
    from q2d2.hub import push as push_checkpoint

    done = push_checkpoint(checkpoint, repo, private=private, revision=revision)
    _print({"pushed": done.url, "commit": done.commit, "verified": ", ".join(done.files)})
    typer.echo(f"Anyone who may read it: Codec.from_pretrained({repo!r}, revision={done.commit!r})")


@checkpoints_app.command(
    epilog="Examples:  evalkit pull --repo me/rhombic -o runs/pulled/rhombic  |  "
    "evalkit pull --repo me/rhombic --revision 3f2a... -o runs/pulled/rhombic"
)
def pull(
    repo: Repo,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the checkpoint.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default: main.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite another checkpoint in the folder.")] = False,
) -> None:
    """Download a checkpoint from the hub and compare it with the hash in its codec.json.

    The commit is printed: give it as --revision to get the same files ever after. Run the same command again after an
    interruption; what the hub's cache has (HF_HOME) is not downloaded again.
    """
    from q2d2.checkpoints import load_codec
    from q2d2.hub import pull as pull_checkpoint
    from q2d2.model_card import codec_facts

    done = pull_checkpoint(repo, out, revision=revision, replace=force)
    _print(
        {
            "pulled": f"{repo} at commit {done.commit}",
            **codec_facts(load_codec(done.folder)),
            "written": f"{done.folder} (sha256 {done.weights_sha256})",
        }
    )


def _print(facts: Mapping[str, str]) -> None:
    width = max(map(len, facts))
    for label, text in facts.items():
        typer.echo(f"{label:{width}}  {text}")
