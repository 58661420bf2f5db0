"""`stemzoo zoo import` and `zoo export`: other people's weights to bundles, bundles to other people's formats. Added to zoo by cli.zoo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from stemzoo.cli.options import AsJson, Limits, ModelName
from stemzoo.cli.progress import print_json

import_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Take over other people's weights.")
export_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write a model for another program.")


@import_app.command("atomai", epilog="Example: stemzoo zoo import atomai graphene.tar --sampling 0.104 --out my-zoo/graphene-atomai/v1")
def import_atomai(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .tar or .pt that AtomAI or AICrystallographer saved.")],
    sampling: Annotated[float, typer.Option("--sampling", metavar="Å/px", min=1e-6, help="Of the frames it was trained on.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The bundle's folder; NAME/v1 states name and version.")],
    classes: Annotated[str | None, typer.Option("--classes", metavar="A,B", help="Names of the classes of columns.")] = None,
    intensity: Annotated[str, typer.Option("--intensity", metavar="LOW,HIGH", help="rVAE: raw intensities that were 0 and 1.")] = "0,1",
    upsampling: Annotated[str, typer.Option("--upsampling", help="bilinear or nearest, where the file does not say.")] = "bilinear",
    materials: Annotated[list[str] | None, typer.Option("--material", metavar="NAME", help="What it was trained for.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", metavar="SPDX", help="Of the weights; needed to publish.")] = None,
    citation: Annotated[str | None, typer.Option("--citation", metavar="TEXT", help="How to cite the weights.")] = None,
    limits: Limits = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle of AtomAI's weights, unchanged. No code in the file is run, and what does not fit is said."""
    from stemzoo.export.atomai import Origin
    from stemzoo.export.atomai import import_atomai as convert

    try:
        low, high = (float(text) for text in intensity.split(","))
    except ValueError:
        raise typer.BadParameter(f"{intensity!r}; wanted two numbers, e.g. 0,1", param_hint="--intensity") from None
    if not high > low:
        raise typer.BadParameter(f"{intensity!r}; wanted the lower one first", param_hint="--intensity")
    options = {"materials": materials, "licence": licence, "citation": citation, "limits": limits}
    stated = {key: value for key, value in options.items() if value}
    version = re.fullmatch(r"v([1-9]\d*)", out.name)
    name, number = (out.absolute().parent.name, int(version[1])) if version else (out.name, 1)
    names = tuple(text.strip() for text in classes.split(",")) if classes else ()
    card = convert(checkpoint, out, Origin(sampling, name, number, names, (low, high), upsampling, stated))
    if as_json:
        print_json({**card.model_dump(mode="json"), "folder": str(out)})
        return
    typer.echo(
        f"{card.id} is in {out}: {card.title}, {card.parameters:,} parameters; onnxruntime reproduces torch within {card.golden.atol:g}"
    )


@export_app.command("bioimageio", epilog="Example: stemzoo zoo export bioimageio adf-unet --out adf-unet.zip")
def export_bioimageio(
    name: ModelName,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="A folder, or an archive if it ends in .zip.")],
    as_json: AsJson = False,
) -> None:
    """Write a model as a package for bioimage.io. Its golden tensors are the test tensors."""
    from stemzoo.zoo import resolve
    from stemzoo.zoo.bioimage import export_bioimage

    path = export_bioimage(resolve(name), out)
    if as_json:
        print_json({"package": str(path)})
    else:
        typer.echo(f"{path}; check it: bioimageio test {path}")
