"""`stemzoo evaluate`: a model's scores on a labelled dataset, as its card quotes them, and a picture of where it fails."""

from __future__ import annotations

import math
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stemzoo.cli.options import AsJson, Dask
from stemzoo.cli.progress import Progress, bar, bars, print_json

if TYPE_CHECKING:
    from stemzoo.analyze.models import Models
    from stemzoo.evaluate import FrameScore
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.segmenter import Segmenter

BATCH_FRAMES = 8  # that a worker scores at a time


class By(StrEnum):
    """What the frames are grouped by."""

    material = "material"
    dose = "dose"
    scale = "scale"


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Segmenter or encoder: name, name@version or a bundle's folder.")],
    dataset: Annotated[Path, typer.Argument(metavar="H5", help="A dataset with truth; to be fair, one that no training saw.")],
    by: Annotated[
        By, typer.Option("--by", help="Group frames by material, dose (electrons in a column's peak) or scale (Å/px).")
    ] = By.material,
    bound: Annotated[bool, typer.Option("--bound", help="Hold errors against the Cramér–Rao bound; about a second a frame.")] = False,
    dask: Dask = None,
    figure: Annotated[Path | None, typer.Option("--figure", metavar="PNG", help="Draw F1, errors, coverage of σ and calibration.")] = None,
    failures: Annotated[
        Path | None, typer.Option("--failures", metavar="JPG", help="Draw where it is wrong most, a panel a material.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model against truth, with 95 % intervals. Of a segmenter detection and position, of an encoder angles and latents."""
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.zoo import resolve

    bundle = Bundle.load(resolve(model))
    if bundle.spec.task == "encoding":
        for option, given in (("--by", by is not By.material), ("--bound", bound), ("--dask", dask), ("--figure", figure)):
            if given:
                raise typer.BadParameter("is for segmenters; leave it out for an encoder", param_hint=option)
        _evaluate_encoder(bundle, model, dataset, failures, as_json)
    else:
        _evaluate_segmenter(bundle, model, dataset, by, bound, dask, figure, failures, as_json)


def _evaluate_segmenter(
    bundle: Bundle,
    model: str,
    dataset: Path,
    by: By,
    bound: bool,
    dask: str | None,
    figure: Path | None,
    failures: Path | None,
    as_json: bool,
) -> None:
    from stemzoo.evaluate import GROUPINGS, frame_scores, summarise
    from stemzoo.runtime.segmenter import Segmenter

    segmenter = Segmenter(bundle)
    with bars(f"evaluate {model}") as progress:
        if dask is None:
            frames = list(frame_scores(segmenter, dataset, bound=bound, progress=progress and partial(progress, "evaluate")))
        else:
            frames = _on_cluster(dask, segmenter, dataset.absolute(), bound, progress)
    scores = summarise(frames, GROUPINGS[by.value])
    if figure is not None:
        from stemzoo.evaluate.figure import draw_evaluation

        draw_evaluation(frames, scores, f"{segmenter.id.id} on {dataset.name}", figure)
    if failures is not None:
        from stemzoo.evaluate.failures import segmenter_failures
        from stemzoo.evaluate.gallery import draw_gallery

        draw_gallery(segmenter_failures(segmenter, dataset, frames), f"Where {segmenter.id.id} fails", failures)
    if as_json:
        print_json({"model": model, "dataset": str(dataset), "scores": [score.as_dict() for score in scores]})
        return
    print(
        f"{'':<28}{'frames':>7}{'columns':>9}{'F1 at 0.5 Å':>22}{'RMSE px':>9}{'pm':>7}{'bias pm':>9}{'error/σ':>9}{'in 95 %':>9}{'ECE':>7}"
        f"{'/bound':>8}" + (f"{'resolvable':>12}{'their F1':>10}" if bound else "")
    )
    for score in scores:
        interval = f"{score.f1:.4f} ({score.f1_interval[0]:.3f}–{score.f1_interval[1]:.3f})"
        print(
            f"{score.group[:27] or 'unnamed':<28}{score.n_frames:>7}{score.n_columns:>9}{interval:>22}{_cell(score.rmse_px, 9, '.3f')}"
            f"{_cell(score.rmse_pm, 7, '.1f')}{_cell(score.bias_pm, 9, '.2f')}{_cell(score.z_spread, 9, '.2f')}"
            f"{_cell(score.coverage, 9, '.1%')}{_cell(score.calibration, 7, '.3f')}{_cell(score.over_bound, 8, '.2f')}"
            + (f"{score.n_resolvable:>12}{_cell(score.f1_resolvable, 10, '.4f')}" if bound else "")
        )


def _evaluate_encoder(bundle: Bundle, model: str, dataset: Path, failures: Path | None, as_json: bool) -> None:
    from stemzoo.evaluate.encoding import encoded_frames, summarise_encoding
    from stemzoo.runtime.encoder import Encoder

    encoder = Encoder(bundle)
    with bar(f"evaluate {model}", "evaluate") as tick:
        frames = list(encoded_frames(encoder, dataset, progress=tick))
    scores = summarise_encoding(frames)
    if failures is not None:
        from stemzoo.evaluate.failures import encoder_failures
        from stemzoo.evaluate.gallery import draw_gallery

        draw_gallery(encoder_failures(encoder, frames), f"Where {encoder.id.id} fails", failures)
    if as_json:
        print_json({"model": model, "dataset": str(dataset), "scores": [score.as_dict() for score in scores]})
        return
    print(
        f"{'':<28}{'frames':>7}{'columns':>9}{'explained':>11}{'species':>9}{'angle error °':>22}{'sure':>8}{'their P90 °':>13}"
        f"{'error/σ':>9}{'latents move':>14}"
    )
    for score in scores:
        angle = f"{score.angle_deg:.2f} ({score.angle_interval[0]:.2f}–{score.angle_interval[1]:.2f})"
        print(
            f"{score.group[:27] or 'unnamed':<28}{score.n_frames:>7}{score.n_columns:>9}{_cell(score.explained, 11, '.3f')}"
            f"{_cell(score.species, 9, '.3f')}{angle:>22}{_cell(score.sure, 8, '.1%')}{_cell(score.sure_p90_deg, 13, '.2f')}"
            f"{_cell(score.z_spread, 9, '.2f')}{_cell(score.moved, 14, '.2f')}"
        )


def _cell(value: float, width: int, form: str) -> str:
    """Return a number in a column of a table, or a dash where the dataset or the model leaves it unknown."""
    return f"{value:>{width}{form}}" if math.isfinite(value) else f"{'–':>{width}}"


def _on_cluster(address: str, segmenter: Segmenter, dataset: Path, bound: bool, progress: Progress | None) -> list[FrameScore]:
    """Return the scores of every frame, computed in batches on a cluster."""
    from stemzoo.analyze.cluster import cluster
    from stemzoo.analyze.many import collect
    from stemzoo.analyze.models import Models
    from stemzoo.io.datasets import Dataset

    total = len(Dataset(dataset))
    calls = [(dataset, first, min(first + BATCH_FRAMES, total), bound) for first in range(0, total, BATCH_FRAMES)]
    with cluster(address, Models(segmenter)) as pool:
        return [score for batch in collect(pool, _score, calls, progress=progress) for score in batch]


def _score(dataset: Path, first: int, end: int, bound: bool, models: Models) -> list[FrameScore]:
    """What a worker computes: the scores of some frames."""
    from stemzoo.evaluate import frame_scores

    assert models.segmenter is not None
    return list(frame_scores(models.segmenter, dataset, bound=bound, only=range(first, end)))
