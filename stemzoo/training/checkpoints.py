"""Checkpoints to what is exported: the network, its graph and the draft of its card. The one hook between training and `export`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stemzoo.errors import ModelError
from stemzoo.nets.unet import EnsembleGraph, SegmenterGraph
from stemzoo.training.ensemble import members_of
from stemzoo.training.pool import materials_of
from stemzoo.training.segmentation import MIN_SEPARATION, THRESHOLD, SegmenterTask


def load_for_export(checkpoint: str | Path) -> tuple[str, dict[str, nn.Module], dict[str, Any]]:
    """Return the task, the modules (`model`, `weights`, and `decoder` for an encoder) and the card's draft of a checkpoint, of a run, or of
    an ensemble's run.

    Facts of the run (seed, steps, versions, parent) come from the checkpoint and from `versions.json`, `summary.json` and `start.json` of
    its run folder.
    Raises: ModelError if the file is missing, unreadable or no checkpoint of stemzoo, or if members of an ensemble are missing.
    """
    path = Path(checkpoint)
    if members := members_of(path):
        return "segmentation", *_ensemble(path, members)
    if (path / "model.onnx").is_file():
        raise ModelError(f"{path}: a bundle already; analyse with it as it is, or put it into a zoo by stemzoo zoo publish")
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
    materials = _materials(loaded)
    draft |= {"materials": materials} if materials else {}
    run = path.parent.parent
    draft = {"name": _name_of(run), "version": 1, "licence": "unstated", "citation": "unstated", "materials": ["unstated"], **draft}
    summary, start = _facts(run / "summary.json"), _facts(run / "start.json")
    if "sha256" in start:
        draft["parent"] = start["sha256"]
    draft["training"] = {
        **draft.get("training", {}),
        "recipes": materials,
        "steps": int(loaded.get("global_step", 0)),
        "versions": {key: str(value) for key, value in _facts(run / "versions.json").items()},
        **{key: summary[key] for key in ("hours", "hardware") if key in summary},
    }
    return task, modules, draft


def _name_of(run: Path) -> str:
    """Return the name of a model that is made of a run."""
    return "".join(c if c.isalnum() else "-" for c in run.name.lower()).strip("-") or "model"


def _ensemble(run: Path, members: Sequence[Path]) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Return the modules and the card's draft of an ensemble; the draft is that of its first member where they are alike."""
    parts = [load_for_export(member) for member in members]
    nets = [modules["weights"] for _, modules, _ in parts]
    first, drafts = parts[0][2], [draft for *_, draft in parts]
    for name in ("classes", "sampling"):
        if any(draft[name] != first[name] for draft in drafts):
            raise ModelError(f"{run}: its members differ in {name}; wanted the same for all: train them with one configuration")
    hours = sum(draft["training"].get("hours", 0.0) for draft in drafts)
    draft = {
        **first,
        "name": _name_of(run),
        "title": f"Ensemble of {len(members)}: {first['title']}",
        "summary": f"{first['summary']} The mean of {len(members)} networks that differ in their seed, and how many of them agree.",
        "receptive_px": max(draft["receptive_px"] for draft in drafts),
        "stride_px": max(draft["stride_px"] for draft in drafts),
        "training": {**first["training"], "hours": hours},
    }
    weights = nn.ModuleList(nets)
    weights.config = {"members": [net.config for net in nets]}  # type: ignore[assignment]
    return {"model": EnsembleGraph(nets), "weights": weights}, draft  # type: ignore[arg-type]


def _segmenter(loaded: dict[str, Any]) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    parameters = loaded["hyper_parameters"]
    task = SegmenterTask(parameters["config"], tuple(parameters["classes"]))
    task.load_state_dict(loaded["state_dict"])
    net, config = task.net.eval(), task.config
    net = net.to(memory_format=torch.contiguous_format)
    shape = {"widths": list(net.widths), "fold": net.fold, "depths": list(net.depths), "separable": net.separable}
    net.config = {**shape, "classes": list(task.classes)}  # type: ignore[assignment]
    materials = _materials(loaded)
    draft = {
        "task": "segmentation",
        "title": f"Segmenter for {', '.join(materials)}" if materials else "Segmenter",
        "summary": "Finds atomic columns in ADF-STEM frames.",
        "sampling": config.sampling.model_dump(),
        "classes": list(task.classes),
        "threshold": THRESHOLD,
        "min_separation": MIN_SEPARATION,
        "receptive_px": net.receptive_px,
        "stride_px": net.stride_px,
        "normalisation": "despiked, less the local mean, over the local spread (windows of 56 px), arsinh",
        "training": {"seed": config.seed},
    }
    return {"model": SegmenterGraph(net), "weights": net}, draft


def _materials(loaded: dict[str, Any]) -> list[str]:
    """Return what the datasets of a checkpoint show: as it was written into it or, of older ones, as files that are still there say."""
    known = loaded.get("datamodule_hyper_parameters", {}).get("materials")
    return list(known if known is not None else materials_of(loaded["hyper_parameters"]["config"].get("datasets", ())))


def _facts(path: Path) -> dict[str, Any]:
    """A JSON table beside the checkpoint; empty where there is none."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
