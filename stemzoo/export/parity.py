"""Proof that an exported graph computes what the network computes. Owns the comparison over several sizes and batches, and its refusals.

Called by export.bundle, with at least two sizes and two batches; what the network gave there becomes the golden tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stemzoo.errors import ExportError, ModelError
from stemzoo.runtime.bundle import ModelSpec
from stemzoo.runtime.golden import compare, relative_tolerance
from stemzoo.runtime.session import open_session

Case = Mapping[str, np.ndarray]


def references(module: nn.Module, cases: Sequence[Case], outputs: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Return the network's own outputs for every case, by name.

    Args:
        cases: inputs by name, in the order of `forward`; different sizes and batches.
        outputs: names of what `forward` returns, in order. Only `angle_sigma` may hold NaN.
    Raises: ExportError if the network cannot take a case, returns another number of tensors, or values that are not finite.
    """
    module = module.eval().cpu()
    results = []
    for number, case in enumerate(cases):
        where = f"{type(module).__name__}, case {number} ({_shapes(case)})"
        try:
            with torch.no_grad():
                result = module(*(torch.from_numpy(array) for array in case.values()))
        except Exception as error:
            raise ExportError(f"{where}: the network itself cannot take it ({str(error).strip()[:300]})") from error
        values = list(result) if isinstance(result, tuple | list) else [result]
        if len(values) != len(outputs):
            raise ExportError(f"{where}: the network returns {len(values)} tensors; wanted {len(outputs)}: {', '.join(outputs)}")
        named = {name: np.ascontiguousarray(value.numpy()) for name, value in zip(outputs, values, strict=True)}
        for name, array in named.items():
            if name != "angle_sigma" and not np.isfinite(array).all():
                raise ExportError(f"{where}: the network itself gives {name} that is not finite; check the checkpoint")
        results.append(named)
    return results


def check_parity(path: Path, cases: Sequence[Case], wanted: Sequence[Mapping[str, np.ndarray]], spec: ModelSpec) -> None:
    """Check that onnxruntime reproduces what the network gave, within the spec's golden tolerances.

    Args:
        path: the exported graph.
        cases, wanted: inputs and the network's outputs, as `references` returns them.
    Raises: ExportError naming the case, how many elements differ, and the worst.
    """
    session = open_session(path)
    for number, (case, truth) in enumerate(zip(cases, wanted, strict=True)):
        where = f"{path.name}, case {number} ({_shapes(case)})"
        try:
            found = session.run(case)
        except ModelError as error:
            raise ExportError(f"{where}: the network takes it, the graph does not; {error}") from error
        for name, array in truth.items():
            check = compare(name, found[name], array, spec, truth)
            if check.n_differ:
                raise ExportError(
                    f"{where}: {check.n_differ} of {check.n} elements of {name} differ between torch and onnxruntime, the worst by "
                    f"{check.worst:.3g} at {check.worst_index}; wanted at most {spec.golden_atol:g} + "
                    f"{relative_tolerance(name, spec):g}·|value|; nothing was written"
                )


def _shapes(case: Case) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in case.items())
