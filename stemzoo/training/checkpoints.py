"""Checkpoints to what is exported: the network, its graph and the draft of its card. The one hook between training and `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stemzoo.errors import ModelError
from stemzoo.nets.unet import SegmenterGraph
from stemzoo.training.segmentation import MIN_SEPARATION, THRESHOLD, SegmenterTask


def load_for_export(checkpoint: str | Path) -> tuple[str, dict[str, nn.Module], dict[str, Any]]:
    """Return the task, the modules (`model`, `weights`, and `decoder` for an encoder) and the card's draft of a checkpoint.

    Facts of the run (seed, steps, versions) come from the checkpoint and from `versions.json` and `summary.json` of its run folder.
    Raises: ModelError if the file is missing, unreadable or no checkpoint of stemzoo.
    """
    path = Path(checkpoint)
    if path.is_dir():
        path = path / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint; training keeps them in <run>/checkpoints/")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        parameters = loaded["hyper_parameters"]
        task = str(parameters["task"])
    except Exception as failure:
        raise ModelError(f"{path}: no checkpoint of stemzoo ({type(failure).__name__}); wanted one from `stemzoo train`") from None
    if task == "segmentation":
        modules, draft = _segmenter(loaded)
    elif task == "encoding":
        from stemzoo.training.encoding import export_parts

        modules, draft = export_parts(loaded)
    else:
        raise ModelError(f"{path}: a checkpoint for the task {task!r}; wanted segmentation or encoding")
    run = path.parent.parent
    name = "".join(c if c.isalnum() else "-" for c in run.name.lower()).strip("-") or "model"
    draft = {"name": name, "version": 1, "licence": "unstated", "citation": "unstated", "materials": ["unstated"], **draft}
    summary = _facts(run / "summary.json")
    draft["training"] = {
        **draft.get("training", {}),
        "steps": int(loaded.get("global_step", 0)),
        "versions": {key: str(value) for key, value in _facts(run / "versions.json").items()},
        **{key: summary[key] for key in ("hours", "hardware") if key in summary},
    }
    return task, modules, draft


def _segmenter(loaded: dict[str, Any]) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    parameters = loaded["hyper_parameters"]
    task = SegmenterTask(parameters["config"], tuple(parameters["classes"]))
    task.load_state_dict(loaded["state_dict"])
    net, config = task.net.eval(), task.config
    net = net.to(memory_format=torch.contiguous_format)
    shape = {"widths": list(net.widths), "fold": net.fold, "depths": list(net.depths)}
    net.config = {**shape, "classes": list(task.classes)}  # type: ignore[assignment]
    materials = _materials(config.datasets)
    draft = {
        "task": "segmentation",
        "title": f"Segmenter for {', '.join(materials)}" if materials else "Segmenter",
        "summary": "Finds atomic columns in ADF-STEM frames.",
        **({"materials": list(materials)} if materials else {}),
        "sampling": config.sampling.model_dump(),
        "classes": list(task.classes),
        "threshold": THRESHOLD,
        "min_separation": MIN_SEPARATION,
        "receptive_px": net.receptive_px,
        "stride_px": net.stride_px,
        "normalisation": "despiked, less the local mean, over the local spread (windows of 56 px), arsinh",
        "training": {"recipes": list(materials), "seed": config.seed},
    }
    return {"model": SegmenterGraph(net), "weights": net}, draft


def _materials(datasets: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the datasets' materials, where the files are still there to be asked."""
    from stemzoo.errors import DatasetError
    from stemzoo.io.datasets import Dataset

    found = []
    for path in datasets:
        try:
            found.append(Dataset(path).material)
        except DatasetError:
            continue
    return tuple(dict.fromkeys(name for name in found if name))


def _facts(path: Path) -> dict[str, Any]:
    """A JSON table beside the checkpoint; empty where there is none."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
