"""A training run of an encoder on HDF5 datasets: the folder that `run.fit` leaves behind. Called by `stemzoo train rvae` and `scripts/`."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from stemzoo.errors import ModelError
from stemzoo.training.encoding import EncoderTask, epochs_for
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.run import Run, fit
from stemzoo.training.subimages import SubImageData

UNEVEN = "ddp_find_unused_parameters_true"  # the calibration of the angle's error begins to learn half-way


def train_encoder(config: EncoderConfig, out: str | Path, *, resume: str | Path | None = None, progress: bool = True) -> Run:
    """Train an rVAE on windows around the columns of `config.datasets` and return the run.

    Args: out: the run's folder, made if missing. resume: a checkpoint of an interrupted run, or its folder.
    Raises: DatasetError, ModelError, OutputError.
    """
    if config.devices != "auto" and not str(config.devices).isdigit():
        raise ModelError(f"--devices {config.devices!r}: an encoder wants their number, e.g. 2")
    told: dict[str, int | str] = {"devices": 1 if config.devices == "auto" else int(config.devices)}
    if config.processes > 1 and config.strategy in ("auto", "ddp"):
        told["strategy"] = UNEVEN
    config = config.model_copy(update=told)
    L.seed_everything(config.seed, workers=True, verbose=False)
    data = SubImageData.from_files(config)
    task = EncoderTask.for_data(config, data)
    epochs = epochs_for(config, data)
    return fit(task, data, config, out, epochs=epochs, monitor="val_loss", resume=resume, progress=progress)
