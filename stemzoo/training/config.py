"""What a training run is told: typed, read from TOML, unknown keys refused, saved beside the checkpoint.

Called by the CLI and `scripts/`.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from stemzoo.errors import RecipeError
from stemzoo.schema import Strict, validate

C = TypeVar("C", bound=Strict)


class Sampling(Strict):
    """The range of pixel sizes a network is trained on [Å/px], and the one that frames outside are resampled to."""

    min: float = Field(0.14, gt=0, description="finest [Å/px]")
    nominal: float = Field(0.2, gt=0, description="what frames outside are resampled to [Å/px]")
    max: float = Field(0.28, gt=0, description="coarsest [Å/px]")


class Augmentation(Strict):
    """How patches are varied each time they are drawn. Pairs are ranges; zoom and dose are drawn uniformly in the logarithm."""

    zoom: tuple[float, float] = Field((0.7, 1.4), description="factor on the pixel size, kept within the trained sampling")
    zoom_probability: float = Field(0.5, ge=0, le=1, description="share of the patches that are zoomed")
    dose_factor: tuple[float, float] = Field((0.4, 2.5), description="factor on the dose of simulated frames")
    row_jitter: tuple[float, float] = Field((0.0, 0.08), description="rms shift of a row [Å]")
    readout: tuple[float, float] = Field((0.0, 1.0), description="rms readout noise, in units of the shot noise at the mean intensity")
    blur: tuple[float, float] = Field((0.0, 0.5), description="sigma of a blur after the noise, as filtered and resampled frames show [Å]")
    blur_probability: float = Field(0.35, description="share of the patches that are blurred")
    hot_fraction: tuple[float, float] = Field((0.0, 3e-4), description="share of the pixels that are hot")
    gamma: tuple[float, float] = Field((0.8, 1.25), description="exponent on the recorded intensity, as non-linear exports show")


class SegmenterConfig(Strict):
    """A training run of the segmenter.

    `classes` None takes the datasets' species as they are; `["column"]` merges all of them into one.
    """

    datasets: tuple[str, ...] = Field(description="HDF5 datasets")
    classes: tuple[str, ...] | None = Field(
        None, description='species that are told apart; by default the datasets\', all alike by `["column"]`'
    )
    widths: tuple[int, ...] = Field((24, 48, 72, 96), description="channels of each level")
    fold: Literal[2, 4] = Field(2, description="pixels a side folded into channels at the stem")
    depths: tuple[int, ...] | None = Field(None, description="convolutions of each level; two everywhere by default")
    separable: bool = Field(False, description="convolve within each channel, then across them: less arithmetic")
    sampling: Sampling = Sampling()
    heat_sigma: float = Field(0.35, gt=0, description="width of the Gaussian target around a column [Å]")
    patch_px: int = Field(128, ge=32, multiple_of=16, description="side of a patch")
    batch: int = Field(16, ge=1, description="patches a step, of all devices together")
    steps: int = Field(4000, ge=1, description="optimiser steps")
    stop_after: int | None = Field(None, ge=1, description="break the schedule off after so many steps, for another stage to follow")
    steps_per_epoch: int = Field(250, ge=1, description="after so many the network is validated and kept")
    learning_rate: float = Field(3e-3, gt=0, description="highest of the schedule")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's")
    ema_decay: float = Field(0.998, ge=0, lt=1, description="of the average over the steps' weights, which is what is exported")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="share of the frames that is kept to validate on")
    validation_patches: int = Field(128, ge=1, description="patches of those frames")
    workers: int = Field(1, ge=0, description="processes that draw patches")
    seed: int = Field(0, description="of weights and patches")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", description="Lightning's")
    devices: int | str = Field("auto", description="number of devices")
    num_nodes: int = Field(1, ge=1, description="number of machines")
    strategy: str = Field("auto", description="Lightning's")
    accumulate: int = Field(1, ge=1, description="parts that a batch is computed in, one after the other")
    augmentation: Augmentation = Augmentation()
    replay: tuple[str, ...] = Field((), description="datasets of what a network that is fine-tuned must not forget")
    replay_share: float = Field(0.25, ge=0, lt=1, description="share of the patches that come from them")


CONFIG_FILE = "config.json"


def run_of(resume: str | Path) -> Path:
    """Return the folder of the run that is named by itself or by a checkpoint in it."""
    path = Path(resume)
    return path.parent.parent if path.suffix == ".ckpt" and path.parent.name == "checkpoints" else path


def told_before(folder: Path) -> dict[str, Any]:
    """Return the settings that a run was told, resolved; none where the folder holds no run. Raises: RecipeError if they are damaged."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as failure:
        raise RecipeError(f"{path}: not JSON: {failure}") from None


def load_config(path: str | Path, kind: type[C], before: dict[str, Any] | None = None, **overrides: object) -> C:
    """Return the configuration in a TOML file, laid over `before`, with `overrides` that are not None laid over both.

    Raises: RecipeError for a missing file, bad TOML or an unknown key.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"{path}: no such configuration file")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise RecipeError(f"{path}: not TOML: {failure}") from None
    told = {key: value for key, value in overrides.items() if value is not None}
    return validate(kind, {**(before or {}), **tables, **told}, str(path), RecipeError)
