"""Weights that a training begins from: where they lie, what of them fits a network, and what they were trained for.

Called by training.segmenter_run and the CLI.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from stemzoo.errors import ModelError

KEPT = ("widths", "fold", "depths", "separable", "sampling")


def weights_file(source: str | Path) -> Path:
    """Return the file of weights that `source` is, or holds if it is a bundle's folder. Raises: ModelError if there is none."""
    path = Path(source)
    if path.is_dir():
        path = path / "weights.safetensors"
    if not path.is_file():
        raise ModelError(f"{path}: no such weights; wanted a bundle's weights.safetensors or a checkpoint")
    return path


def load_weights(net: torch.nn.Module, source: str | Path) -> list[str]:
    """Load into `net` what fits of the weights at `source`, and return the names that did not fit and stay as they were.

    Raises: ModelError if the file is missing or unreadable, or if less than half of the network's tensors fit.
    """
    state = read_weights(source)
    own = net.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    if len(fitting) < len(own) / 2:
        raise ModelError(
            f"{weights_file(source)}: {len(fitting)} of the network's {len(own)} tensors fit; the weights are of another architecture"
        )
    net.load_state_dict({**own, **fitting})
    return sorted(set(own) - set(fitting))


def settings_of(source: str | Path) -> dict[str, Any]:
    """Return what the weights at `source` say of the configuration they were trained with, of what a training from them should keep: the
    network's shape, and in a checkpoint the sampling. Raises: ModelError if the file is missing or unreadable."""
    path = weights_file(source)
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(str(path), "pt") as file:
                found = json.loads((file.metadata() or {}).get("config", "{}"))
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)["hyper_parameters"]["config"]
        return {key: found[key] for key in KEPT if found.get(key) is not None}
    except Exception as failure:
        raise _unreadable(path, failure) from None


def read_weights(source: str | Path) -> dict[str, torch.Tensor]:
    """Return the weights at `source` by name. Raises: ModelError if the file is missing or unreadable."""
    path = weights_file(source)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(str(path)))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        return {key.removeprefix("net."): value for key, value in loaded["state_dict"].items() if key.startswith("net.")}
    except Exception as failure:
        raise _unreadable(path, failure) from None


def _unreadable(path: Path, failure: Exception) -> ModelError:
    return ModelError(f"{path}: cannot be read as weights ({type(failure).__name__}); wanted safetensors or a stemzoo checkpoint")
