"""What Lightning says of every training and nobody can act upon, left unsaid. Called by training.run and training.fitting."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

SAID = (
    "does not have many workers",
    "GPU available but not used",
    "`srun` command is available",  # wherever SLURM is installed, also beside its jobs
    "lr_scheduler.step",
    "isinstance.treespec, LeafSpec",
    "Starting from v1.9.0",
)
"""Regular expressions, each found somewhere in a warning."""


@contextmanager
def quiet(*more: str) -> Iterator[None]:
    """Leave out, inside, Lightning's notes and those of its warnings that `SAID` or `more` match."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for said in (*SAID, *more):
            warnings.filterwarnings("ignore", message=f".*{said}.*")
        yield
