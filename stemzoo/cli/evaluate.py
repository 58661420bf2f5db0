"""`stemzoo evaluate`: a segmenter's scores on a labelled dataset, as its card quotes them."""

from __future__ import annotations

from pathlib import Path

import typer

from stemzoo.cli.progress import bars, print_json


def evaluate(
    model: str = typer.Argument(..., metavar="MODEL", help="Segmenter: name, name@version or a bundle's folder."),
    dataset: Path = typer.Argument(..., metavar="H5", help="A dataset with truth; to be fair, one that no training saw."),
    by_dose: bool = typer.Option(False, "--by-dose", help="Group by counts a column instead of by material."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Detection and position scores against truth, by material or dose, with 95 % intervals."""
    from stemzoo.evaluate import FrameScore, evaluate_model

    def dose(score: FrameScore) -> str:
        return f"{score.counts_per_column:.0f} counts a column"

    with bars(f"evaluate {model}") as progress:
        tick = None if progress is None else (lambda done, total: progress("evaluate", done, total))
        scores = evaluate_model(model, dataset, by=dose if by_dose else None, progress=tick)
    if as_json:
        print_json({"model": model, "dataset": str(dataset), "scores": [score.as_dict() for score in scores]})
        return
    print(
        f"{'':<28}{'frames':>7}{'columns':>9}{'F1 at 0.5 Å':>22}{'RMSE px':>9}{'pm':>7}{'bias pm':>9}{'error/σ':>9}{'in 95 %':>9}{'ECE':>7}"
    )
    for score in scores:
        interval = f"{score.f1:.4f} ({score.f1_interval[0]:.3f}–{score.f1_interval[1]:.3f})"
        print(
            f"{score.group[:27]:<28}{score.n_frames:>7}{score.n_columns:>9}{interval:>22}{score.rmse_px:>9.3f}{score.rmse_pm:>7.1f}"
            f"{score.bias_pm:>9.2f}{score.z_spread:>9.2f}{score.coverage:>9.1%}{score.calibration:>7.3f}"
        )
