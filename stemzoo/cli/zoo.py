"""`stemzoo zoo …`: the registry's verbs. Each parses, calls one public function and prints. Registered by stemzoo.cli.

Listings go to stdout, as a table or with --json as one JSON object; what a zoo of the web had to say goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from stemzoo.cli import neighbours
from stemzoo.cli.options import AsJson, Limits, ModelName
from stemzoo.cli.progress import bar, bars, print_json, readable_bytes
from stemzoo.errors import ModelError

zoo_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The registry of models: find, fetch, check, compare, publish.")
zoo_app.add_typer(neighbours.import_app, name="import")
zoo_app.add_typer(neighbours.export_app, name="export")

Task = Annotated[str | None, typer.Option("--task", metavar="TASK", help="Only models for segmentation, or for encoding.")]
Local = Annotated[bool, typer.Option("--local", help="Only what is on this machine; ask no zoo of the web.")]


@zoo_app.command("list", epilog="Example: stemzoo zoo list --task encoding")
def list_models(task: Task = None, local: Local = False, as_json: AsJson = False) -> None:
    """List every model version. Says task, sampling range, window, size, score and where it is."""
    _print_listing([], task, None, None, None, local, as_json)


@zoo_app.command("search", epilog="Example: stemzoo zoo search --material SrTiO3 --sampling 0.15")
def search(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORD…]", help="Words of the name, title, summary or materials.")] = None,
    task: Task = None,
    material: Annotated[str | None, typer.Option("--material", metavar="NAME", help="A material of the card.")] = None,
    sampling: Annotated[float | None, typer.Option("--sampling", metavar="Å/px", min=1e-6, help="A sampling it was trained on.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", metavar="SPDX", help="E.g. MIT.")] = None,
    local: Local = False,
    as_json: AsJson = False,
) -> None:
    """Find models by words, task, material, sampling or licence. Specialists come first."""
    _print_listing(words or [], task, material, sampling, licence, local, as_json)


def _print_listing(
    words: list[str], task: str | None, material: str | None, sampling: float | None, licence: str | None, local: bool, as_json: bool
) -> None:
    from stemzoo.zoo.listing import Wish, listing, ranked

    if task not in (None, "segmentation", "encoding"):
        raise typer.BadParameter(f"{task!r}; wanted segmentation or encoding", param_hint="--task")
    wish = Wish(tuple(words), task, material, sampling, licence, local)
    models = listing(wish, _note)
    if words or material or sampling or licence:
        models = ranked(models)
    if as_json:
        print_json({"models": models})
        return
    taken = _taken() if any(model["task"] == "segmentation" for model in models) else ""
    rows = [("model", "task", "Å/px", "window", "size", "score", "where", "materials")]
    rows += [
        (
            model["id"] + ("*" if model["id"] == taken else ""),
            model["task"],
            f"{model['sampling']['min']:.3g}–{model['sampling']['max']:.3g}",
            f"{model['window']['angstrom']:g} Å" if model["window"] else "–",
            readable_bytes(model["size_bytes"]),
            _score(model),
            {"own": "installed", "web": "to pull"}.get(model["held"], model["held"]),
            _few(model["materials"]),
        )
        for model in models
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if not models:
        typer.echo("No model found; name a zoo in STEMZOO_ZOO, or ask for less.", err=True)
    elif any(model["id"] == taken for model in models):
        typer.echo("* taken where no segmenter is named; of the encoders, the one that fits the frame, if one does", err=True)
    if len(models) > 1:
        typer.echo(
            "Scores are of each card's own held-back frames (explained: of the variance around columns, noise included); "
            "`stemzoo zoo compare` puts models on the same ones.",
            err=True,
        )


def _taken() -> str:
    """Return the id of the segmenter that serves where none is named; nothing where no zoo has one."""
    from stemzoo.zoo.card import read_card
    from stemzoo.zoo.catalog import default

    with contextlib.suppress(ModelError):
        return read_card(default("segmentation"))[0].id
    return ""


def _score(model: dict[str, Any]) -> str:
    score = model["score"]
    if score is None:
        return "–"
    if score["metric"].startswith("F1"):
        return f"F1 {score['value']:.3f}"
    if score["metric"].startswith("share of the sub-images' variance explained"):
        return f"{score['value']:.0%} explained"
    return f"{score['value']:.2g}{_unit(score['metric'])}"


def _unit(metric: str) -> str:
    unit = re.search(r"\[(\w+)\]", metric)
    return {"degrees": "°", None: ""}.get(unit and unit[1], f" {unit[1]}" if unit else "")


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{', '.join(names[:3])} and {len(names) - 3} more"


@zoo_app.command("show", epilog="Example: stemzoo zoo show adf-unet")
def show(name: ModelName, as_json: AsJson = False) -> None:
    """Show a model's card, and where its pictures are."""
    from stemzoo.zoo.listing import look

    card, prose, folder, source = look(name, _note)
    pictures = [path for path in re.findall(r"!\[[^\]]*\]\(([\w./-]+)\)", prose) if folder is None or (folder / path).is_file()]
    if as_json:
        places = [path if folder is None else str(folder / path) for path in pictures]
        print_json({**card.model_dump(mode="json"), "folder": None if folder is None else str(folder), "pictures": places})
        return
    facts: dict[str, Any] = {
        "model": card.id,
        "task": card.task,
        "folder": folder or f"not fetched; it is in {source}: stemzoo zoo pull {card.id}",
        "materials": ", ".join(card.materials),
        "sampling": f"{card.sampling.min:g}–{card.sampling.max:g} Å/px, nominal {card.sampling.nominal:g}",
        "classes": ", ".join(card.classes),
        "window": f"{card.window.px} px, {card.window.angstrom:g} Å" if card.window else "",
        "latents": card.latents if card.latents is not None else "",
        "parameters": f"{card.parameters:,}",
        "size": readable_bytes(card.size_bytes),
        "licence": card.licence,
        "created": card.created,
    }
    for key, value in facts.items():
        if value != "":
            typer.echo(f"{key:<11}{value}")
    for path in pictures if folder is not None else []:
        typer.echo(f"{'picture':<11}{folder / path}")
    typer.echo(f"\n{prose.rstrip()}")


@zoo_app.command("pull", epilog="Example: stemzoo zoo pull adf-unet@1")
def pull(names: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Names or name@2.")], as_json: AsJson = False) -> None:
    """Fetch models from the zoos of the web into the cache. A broken pull goes on where it stopped."""
    from stemzoo.zoo.fetch import pull as fetch

    results = []
    for name in names:
        with bars(f"pull {name}") as progress:
            results.append(fetch(name, progress=progress, note=_note))
        if not as_json:
            done = results[-1]
            said = f"from {done.source}, {readable_bytes(done.card.size_bytes)}" if done.fetched else "already here"
            typer.echo(f"{done.card.id}: {said}\n  {done.folder}")
    if as_json:
        listed = [{"id": done.card.id, "folder": str(done.folder), "fetched": done.fetched, "source": done.source} for done in results]
        print_json({"models": listed})


@zoo_app.command("verify", epilog="Example: stemzoo zoo verify adf-unet")
def verify(name: ModelName, as_json: AsJson = False) -> None:
    """Check a model's files and replay its golden tensors."""
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.golden import verify as replay
    from stemzoo.zoo import read_card, resolve
    from stemzoo.zoo.check import check_files, check_graphs

    folder = resolve(name)
    card, _ = read_card(folder)
    check_files(card, folder)
    check_graphs(card, folder)
    result = replay(Bundle.load(folder))
    if as_json:
        checks = [{"array": check.array, "n": check.n, "n_differ": check.n_differ, "worst": check.worst} for check in result.checks]
        print_json({"id": result.id, "sha256": result.sha256, "ok": result.ok, "provider": result.provider, "checks": checks})
    if not result.ok:
        raise ModelError(result.summary())
    if not as_json:
        for notice in result.notices:
            typer.echo(notice, err=True)
        typer.echo(f"{len(card.files)} files of {card.id} are what its card lists")
        typer.echo(result.summary())


@zoo_app.command("compare", epilog="Example: stemzoo zoo compare adf-unet my-zoo/rutile-unet/v1 held_back.h5")
def compare(
    words: Annotated[
        list[str], typer.Argument(metavar="MODEL MODEL… H5", help="Segmenters, the reference first; then a dataset with truth.")
    ],
    as_json: AsJson = False,
) -> None:
    """Score segmenters side by side on frames with truth. A * marks a difference that holds at 95 %."""
    from stemzoo.evaluate.compare import compare as score

    if len(words) < 3:
        raise typer.BadParameter("wanted two or more models and then a dataset", param_hint="MODEL MODEL… H5")
    with bars(f"compare on {words[-1]}") as progress:
        compared = score(words[:-1], words[-1], progress=progress)
    if as_json:
        print_json({"dataset": words[-1], "models": [each.as_dict() for each in compared]})
        return
    typer.echo(f"{'':<28}{'columns':>9}{'F1 at 0.5 Å':>22}{'less first':>12}{'RMSE pm':>20}{'less first':>12}{'error/σ':>9}")
    for each in compared:
        score_ = each.score
        f1 = f"{score_.f1:.4f} ({score_.f1_interval[0]:.3f}–{score_.f1_interval[1]:.3f})"
        rmse = f"{score_.rmse_pm:.2f} ({score_.rmse_pm_interval[0]:.2f}–{score_.rmse_pm_interval[1]:.2f})"
        less = [
            "" if gap is None else f"{gap.value:+.{digits}f}{'*' if gap.holds else ' '}"
            for gap, digits in ((each.f1, 4), (each.rmse_pm, 2))
        ]
        typer.echo(f"{each.id[:27]:<28}{score_.n_columns:>9}{f1:>22}{less[0]:>12}{rmse:>20}{less[1]:>12}{score_.z_spread:>9.2f}")


@zoo_app.command("publish", epilog="Example: stemzoo zoo publish run --to my-zoo --name rutile-unet --scores held_back.h5")
def publish(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run of stemzoo train, or a bundle of stemzoo export or --fit-encoder.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The zoo: a tree <name>/v<N>/ with its index.json, made if missing.")],
    name: Annotated[str | None, typer.Option("--name", help="The model's name. [default: card.toml's, or the run's]")] = None,
    version: Annotated[int | None, typer.Option("--model-version", min=1, help="[default: the zoo's next]")] = None,
    licence: Annotated[str | None, typer.Option("--licence", metavar="SPDX", help="E.g. MIT or CC-BY-4.0.")] = None,
    citation: Annotated[str | None, typer.Option("--citation", metavar="TEXT", help="How to cite the model.")] = None,
    limits: Limits = None,
    materials: Annotated[list[str] | None, typer.Option("--material", metavar="NAME", help="What it is for; once for each.")] = None,
    scores: Annotated[Path | None, typer.Option("--scores", metavar="H5", help="Frames that no training saw, to score it on.")] = None,
    deposit: Annotated[Path | None, typer.Option("--deposit", metavar="DIR", help="Also write an archive and metadata for Zenodo.")] = None,
    as_json: AsJson = False,
) -> None:
    """Publish a trained model in a zoo. The card is drafted from the run; what only you know is asked for in RUN/card.toml."""
    from stemzoo.release import release
    from stemzoo.zoo.publish import write_deposit

    options = {"name": name, "version": version, "licence": licence, "citation": citation, "limits": limits, "materials": materials}
    stated = {key: value for key, value in options.items() if value}
    with bar(f"publish {source}", "scores") as tick:
        card = release(source, to, stated, scores=scores, progress=tick)
    folder = to / card.name / f"v{card.version}"
    files = write_deposit(folder, deposit) if deposit is not None else []
    if as_json:
        print_json({"id": card.id, "folder": str(folder), "deposit": [str(path) for path in files]})
        return
    typer.echo(f"{card.id}: {folder}, {readable_bytes(card.size_bytes)}; {to / 'index.json'} lists it")
    for path in files:
        typer.echo(f"  {path}")
    option = "--model" if card.task == "segmentation" else "--encoder"
    typer.echo(f"Use it: STEMZOO_ZOO={to} stemzoo analyze FRAME {option} {card.name}", err=True)


@zoo_app.command("index", epilog="Example: stemzoo zoo index model_cards")
def index(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A zoo: a tree <name>/v<N>/.")], as_json: AsJson = False) -> None:
    """Write a zoo's index.json from its cards. A version that was listed before must not have changed."""
    from stemzoo.zoo.index import write_index

    if not folder.is_dir():
        raise ModelError(f"{folder}: no such directory; wanted a zoo, a tree <name>/v<N>/")
    path = write_index(folder)
    written = path.read_text(encoding="utf-8")
    typer.echo(written.rstrip() if as_json else f"{path}: {len(json.loads(written)['models'])} models")


def _note(text: str) -> None:
    typer.echo(f"note: {text}", err=True)
