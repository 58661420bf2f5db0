"""A training run of an encoder on HDF5 datasets: the folder that `run.fit` leaves behind. Called by `stemzoo train rvae` and `scripts/`."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from stemzoo.errors import ModelError
from stemzoo.training.encoding import GRADIENT_CLIP, EncoderTask, epochs_for
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.run import Run, fit
from stemzoo.training.subimages import SubImageData


def train_encoder(config: EncoderConfig, out: str | Path, *, resume: str | Path | None = None, progress: bool = True) -> Run:
    """Train an rVAE on windows around the columns of `config.datasets` and return the run.

    Args: out: the run's folder, made if missing. resume: a checkpoint of an interrupted run, or its folder.
    Raises: DatasetError, ModelError, OutputError.
    """
    if config.num_nodes > 1 or config.devices not in ("auto", 1, "1"):
        raise ModelError(
            f"an encoder was asked to train on {config.devices} devices and {config.num_nodes} machines; one process holds the offset of "
            "each of its sub-images: leave out --devices and --num-nodes"
        )
    config = config.model_copy(update={"devices": 1})
    L.seed_everything(config.seed, workers=True, verbose=False)
    data = SubImageData.from_files(config)
    task = EncoderTask.for_data(config, data)
    epochs = epochs_for(config, data)
    return fit(task, data, config, out, epochs=epochs, monitor="val_loss", resume=resume, gradient_clip=GRADIENT_CLIP, progress=progress)
