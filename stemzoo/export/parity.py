"""Proof that an exported graph computes what the network computes. Owns the comparison on several sizes and batches; refuses a graph that
differs.

Called by export.bundle, with at least two sizes and two batches; what the network gave there becomes the golden tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stemzoo.errors import ExportError
from stemzoo.runtime.bundle import ModelSpec, compare
from stemzoo.runtime.session import open_session

Case = Mapping[str, np.ndarray]


def reference(module: nn.Module, case: Case, outputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the network's own outputs for one case, by name. Raises: ExportError if it returns another number of them."""
    with torch.no_grad():
        result = module.eval().cpu()(*(torch.from_numpy(array) for array in case.values()))
    values = list(result) if isinstance(result, (tuple, list)) else [result]
    if len(values) != len(outputs):
        raise ExportError(f"{type(module).__name__} returns {len(values)} tensors; wanted {len(outputs)}: {', '.join(outputs)}")
    return {name: np.ascontiguousarray(value.numpy()) for name, value in zip(outputs, values, strict=True)}


def check_parity(
    module: nn.Module, path: Path, cases: Sequence[Case], outputs: Sequence[str], spec: ModelSpec
) -> list[dict[str, np.ndarray]]:
    """Return the network's outputs for every case, once onnxruntime has reproduced each within the spec's golden tolerances.

    Args:
        cases: inputs by name, in the order of `forward`; different sizes and batches.
    Raises: ExportError naming the case, how many elements differ, and the worst.
    """
    session = open_session(path)
    wanted = []
    for number, case in enumerate(cases):
        truth = reference(module, case, outputs)
        found = session.run(case)
        shapes = ", ".join(f"{name} {array.shape}" for name, array in case.items())
        for name, array in truth.items():
            if not np.isfinite(array[~np.isnan(array)]).all():
                raise ExportError(f"{path.name}, case {number} ({shapes}): the network itself gives infinite {name}; check the checkpoint")
            check = compare(name, found[name], array, spec, truth.get("symmetry"))
            if check.n_differ:
                raise ExportError(
                    f"{path.name}, case {number} ({shapes}): {check.n_differ} of {check.n} elements of {name} differ between torch and "
                    "onnxruntime, the worst "
                    f"by {check.worst:.3g} at {check.worst_index}; wanted {spec.golden_atol:g} + {spec.golden_rtol:g}·|value|; nothing "
                    "was written"
                )
        wanted.append(truth)
    return wanted
