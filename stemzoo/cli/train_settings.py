"""What `stemzoo train` is told: by the command line, a TOML, the run that is resumed and the model that is fine-tuned.

torch is loaded inside the functions, when a command wants it. Called by cli.train.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stemzoo.errors import ModelError, needs_extra

if TYPE_CHECKING:
    from stemzoo.training import SegmenterConfig


@contextmanager
def torch_loaded() -> Iterator[None]:
    """Turn a missing extra into a refusal that says how to install it.

    Without a GPU, Lightning's import of torch's compiler, which nothing here uses, is spared Triton and its 80 MB. SLURM's word that the
    time is nearly up waits until the training can heed it (training.guards.HearSlurm): before that it would end the job for good.
    """
    if "SLURM_JOB_ID" in os.environ:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with needs_extra("train", "training"):
        import torch

        if not torch.cuda.is_available():
            sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
            logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # which would say that it is missing
        yield


def folder_and_before(resume: Path | None, out: Path | None, datasets: str, named: bool) -> tuple[Path, dict[str, Any]]:
    """Return the run's folder and the settings that an interrupted run was told, for it goes on with those.

    Args: datasets: what the command calls its datasets; named: whether some were named. Raises: BadParameter for what is missing.
    """
    home, before = None, {}
    if resume is not None:
        with torch_loaded():
            from stemzoo.training.config import run_of, told_before
        home = run_of(resume)
        before = told_before(home)
    if not named and not before:
        raise typer.BadParameter(f"wanted datasets{f'; {resume} holds no run that says which' if resume else ''}", param_hint=datasets)
    folder = out or (home if before else None)
    if folder is None:
        raise typer.BadParameter("wanted a folder for the run", param_hint="--out")
    return folder, before


def configuration(path: Path | None, kind: Any, chosen: dict[str, Any], before: dict[str, Any] | None = None) -> Any:
    """Return the configuration that a resumed run was told `before`, under that in `path`, under what the command line chose."""
    from stemzoo.errors import RecipeError
    from stemzoo.schema import validate
    from stemzoo.training import load_config

    if path is not None:
        settings = load_config(path, kind, before, **chosen)
    else:
        told = {key: value for key, value in chosen.items() if value is not None}
        settings = validate(kind, {**(before or {}), **told}, "command line", RecipeError)
    # A run is resumed and published from other folders too.
    files = {key: getattr(settings, key) for key in ("datasets", "replay") if getattr(settings, key, ())}
    return settings.model_copy(update={key: tuple(str(Path(name).absolute()) for name in names) for key, names in files.items()})


def like_parent(settings: SegmenterConfig, weights: Path) -> SegmenterConfig:
    """Return the settings with the shape and the sampling of what is fine-tuned, unless the configuration names others."""
    from stemzoo.training.weights import settings_of
    from stemzoo.zoo.card import CARD_FILE, read_card

    known = settings_of(weights)
    if (weights.parent / CARD_FILE).is_file() and (sampling := read_card(weights.parent)[0].sampling) is not None:
        known["sampling"] = sampling.model_dump()
    told = {key: getattr(settings, key) for key in settings.model_fields_set}
    return type(settings).model_validate({**known, **told})


def with_replay(settings: SegmenterConfig, replay: str, out: Path, weights: Path) -> SegmenterConfig:
    """Return the settings with the datasets that `--replay` asks for; those that the configuration names go before `auto`."""
    from stemzoo.training.replay import simulate_known
    from stemzoo.training.segmenter_run import prepared

    if replay == "none":
        return settings.model_copy(update={"replay": ()})
    if replay != "auto":
        return settings.model_copy(update={"replay": (str(Path(replay).absolute()),)})
    if settings.replay:
        return settings
    prepared(settings, weights)  # what is refused is refused before minutes go into frames to replay
    out.mkdir(parents=True, exist_ok=True)
    return settings.model_copy(update={"replay": (str(simulate_known(out.absolute() / "replay.h5", settings)),)})


def weights_of(start: str | None) -> Path | None:
    """Return where the weights of `--from` lie: a checkpoint as named, a model of the zoo as its weights.safetensors."""
    if start is None:
        return None
    if start.endswith((".ckpt", ".safetensors")):
        return Path(start)
    from stemzoo.zoo.catalog import resolve

    return resolve(start) / "weights.safetensors"


def angstrom(window: str | None) -> float | None:
    """Return the extent [Å] that `--window` names for datasets. Raises: ModelError where it is in px."""
    from stemzoo.analyze import parse_window

    if window is not None and window.strip().endswith("px"):
        raise ModelError(f"--window {window!r} is in px, but datasets hold frames of many samplings; pass it in Å (e.g. --window 8Å)")
    return parse_window(window, 1.0)


def devices_of(text: str | None) -> int | str | None:
    """Return what `--devices` names as Lightning takes it: a number, or a word such as auto."""
    return int(text) if text is not None and text.isdigit() else text
