"""What the training of an encoder is told. Called by training.encoding, the command line and `scripts/`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stemzoo.schema import Strict


class EncoderConfig(Strict):
    """A training run of an rVAE.

    `form`: `polar` compares all angles exactly, `published` guesses the angle (Bepler et al. 2019). What only one form uses says so.
    """

    form: Literal["polar", "published"] = Field("polar", description="compares all angles exactly; guesses the angle (Bepler et al. 2019)")
    datasets: tuple[str, ...] = Field(default=(), description="HDF5 datasets, for `train rvae`; empty where sub-images are handed over")
    window: float | None = Field(default=None, gt=0, description="side of the sub-images cut from datasets [Å]")
    window_px: int = Field(default=32, ge=8, le=128, description="samples along a side of the sub-images cut from datasets")
    latents: int = Field(default=2, ge=1, le=16, description="numbers that describe a sub-image beside its angle")
    width: int = Field(default=64, ge=8, description="size of the hidden layers; twice that in the published form, as is usual there")
    offset_px: float = Field(
        default=0.6, gt=0, le=1.0, description="polar: prior spread of a column's offset from the middle, per axis [px]"
    )
    symmetry: Literal[1, 2, 3, 4, 6] | None = Field(
        default=None, description="polar: order that every pattern is taken for, its angle known modulo 360°/n; None: each its own"
    )
    normalisation: Literal["set", "image"] = Field(
        default="set", description="`set`: by the training set's mean and spread, so that latents know thickness; `image`: each by its own"
    )
    epochs: int = Field(default=20, ge=1, description="passes over the sub-images")
    min_steps: int = Field(default=400, ge=1, description="small sets get more epochs until this many optimiser steps are reached")
    max_steps: int | None = Field(default=None, ge=1, description="large sets get fewer epochs, so that these steps are hardly exceeded")
    batch: int = Field(default=200, ge=8, description="sub-images a step")
    learning_rate: float = Field(default=5e-3, gt=0, description="highest of the schedule")
    centring: float = Field(default=60.0, ge=0, description="polar: how strongly patterns are held in the middle of their window [1/px²]")
    validation_fraction: float = Field(default=0.1, ge=0, lt=1, description="share of the datasets that is kept to validate on")
    memory_mb: int = Field(
        default=256, ge=8, description="sub-images held at a time; larger sets are streamed, shuffled within what is held"
    )
    translation: bool = Field(False, description="published: also infer an offset")
    likelihood: Literal["mse", "bce"] = Field(default="mse", description="published: of the pixels")
    skip: bool = Field(False, description="published: latents enter every layer of the decoder")
    rotation_sigma: float = Field(default=0.1, gt=0, description="published: standard deviation of the angle's prior [rad]")
    free_angle: bool = Field(
        default=False,
        description="published: that prior lies about the angle found, not about zero, and holds its spread alone, as in AtomAI",
    )
    capacity: tuple[float, float, float] | None = Field(
        default=None, description="published: γ, and the capacity in nats at the first and last step, of γ |KL - C|; None is the plain KL"
    )
    seed: int = Field(0, description="of weights and batches")
    devices: int | str = Field("auto", description="number of devices; one unless told otherwise")
    num_nodes: int = Field(default=1, ge=1, description="number of machines")
    strategy: str = Field("auto", description="Lightning's")

    @model_validator(mode="after")
    def _seeks_what_it_can(self) -> Self:
        """The published form knows no symmetry: that it was asked to seek one shall not be passed over."""
        if self.symmetry is not None and self.form == "published":
            raise ValueError(f"symmetry is {self.symmetry}, which the published form does not seek; wanted form = 'polar', or no symmetry")
        return self

    @property
    def processes(self) -> int:
        """How many processes share a batch; one unless told otherwise, whatever the machine has."""
        return self.num_nodes * (int(self.devices) if str(self.devices).isdigit() else 1)
