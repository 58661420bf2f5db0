"""The golden replay: a bundle's stored inputs through its networks, element by element against what they gave when it was exported.

Owns `golden.npz`'s form and what counts as the same. Called by `verify` on the command line, by stemzoo.pyz, the export and its proof of
parity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np

from stemzoo.errors import ModelError
from stemzoo.runtime.bundle import DECODER_FILE, GOLDEN_FILE, WEIGHTS_FILE, Bundle, ModelSpec, check_listed, sha256_of

SIGMA_RTOL = 1e-3  # of the angle's standard error, where a card asks for less …
WIDE = 0.1  # … and of one wider than this [rad] as many times more as it is wider
ANGLE_SHARE = 0.01  # of its standard error, which an angle may differ by besides


@dataclass(frozen=True)
class GoldenCheck:
    """One output of the golden replay: how many of its `n` elements differ beyond tolerance, and the worst of them."""

    array: str
    n: int
    n_differ: int
    worst: float
    worst_index: Tuple[int, ...]


@dataclass(frozen=True)
class Verification:
    """What the golden replay of a bundle found; `provider` is the execution provider that ran it."""

    id: str
    sha256: str
    provider: str
    checks: Tuple[GoldenCheck, ...]
    notices: Tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every element lies within tolerance."""
        return all(check.n_differ == 0 for check in self.checks)

    def summary(self) -> str:
        """Return one sentence: what was compared, how many elements differ and where the worst is."""
        total = sum(check.n for check in self.checks)
        bad = [check for check in self.checks if check.n_differ]
        if not bad:
            worst = max((check.worst for check in self.checks), default=0.0)
            return f"{self.id}: {total} golden elements agree on {self.provider} (largest difference {worst:.2g})"
        worst_check = max(bad, key=lambda check: check.worst)
        count = sum(check.n_differ for check in bad)
        return (
            f"{self.id}: {count} of {total} golden elements differ on {self.provider}; the worst by {worst_check.worst:.3g}, "
            f"in {worst_check.array} at {worst_check.worst_index}; pull or copy the bundle again"
        )


def verify(bundle: Bundle) -> Verification:
    """Replay golden.npz through the bundle's networks and report element by element.

    Angles are compared modulo 2π/symmetry. Raises: ModelError if golden.npz or a listed file is missing or damaged.
    """
    for name in (GOLDEN_FILE, WEIGHTS_FILE, DECODER_FILE):
        if (bundle.folder / name).is_file():
            check_listed(bundle.folder, name, sha256_of(bundle.folder / name))
    golden = _read_golden(bundle.folder / GOLDEN_FILE)
    checks: List[GoldenCheck] = []
    notices = list(bundle.session.notices)
    for prefix in ("", "decoder_"):
        cases = _cases(golden, prefix)
        if not cases:
            continue
        session = bundle.decoder if prefix else bundle.session
        for case in cases:
            inputs = {name: golden[f"{prefix}input_{name}_{case}"] for name in session.inputs if f"{prefix}input_{name}_{case}" in golden}
            found = session.run(inputs)
            wanted = {
                name: golden[f"{prefix}output_{name}_{case}"] for name in session.outputs if f"{prefix}output_{name}_{case}" in golden
            }
            if not wanted:
                raise ModelError(f"{bundle.folder / GOLDEN_FILE}: holds no output for case {case} of {sorted(session.outputs)}")
            for name, array in wanted.items():
                checks.append(compare(f"{prefix}{name}_{case}", found[name], array, bundle.spec, wanted))
    if not checks:
        raise ModelError(
            f"{bundle.folder / GOLDEN_FILE}: holds no input_…/output_… arrays, only {sorted(golden)[:6]}; export the model again"
        )
    return Verification(bundle.spec.id, bundle.sha256, bundle.session.provider, tuple(checks), tuple(notices))


def examples(bundle: Bundle) -> Optional[np.ndarray]:
    """Return the inputs (M, …) of the first case that a bundle's network was proved on; None where there are none to be had, as from a
    damaged file, of which `verify` tells."""
    try:
        return _read_golden(bundle.folder / GOLDEN_FILE).get(f"input_{bundle.session.inputs[0]}_0")
    except ModelError:
        return None


def _read_golden(path: Path) -> Dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ModelError(f"{path}: missing, so the model cannot prove itself; pull or copy the bundle again") from error
    except Exception as error:
        raise ModelError(f"{path}: cannot be read ({type(error).__name__}: {error}); pull or copy the bundle again") from error


def _cases(golden: Mapping[str, np.ndarray], prefix: str) -> List[str]:
    """Return the case numbers k of `<prefix>input_<name>_<k>`, in order."""
    start = f"{prefix}input_"
    return sorted({name.rsplit("_", 1)[1] for name in golden if name.startswith(start)})


def relative_tolerance(name: str, spec: ModelSpec) -> float:
    """Return the share of its value by which an element of the output `name` may differ; a wide standard error of an angle, by more."""
    return max(spec.golden_rtol, SIGMA_RTOL) if name.startswith("angle_sigma") else spec.golden_rtol


def compare(
    name: str, found: np.ndarray, wanted: np.ndarray, spec: ModelSpec, beside: Optional[Mapping[str, np.ndarray]] = None
) -> GoldenCheck:
    """Return how `found` differs from `wanted` at the spec's tolerances; every element differs where the shapes do.

    Args: beside: the wanted outputs of the same case, by name: an angle is compared modulo 2π/`symmetry`, and by its `angle_sigma`.
    Source: numpy.isclose's rule, |found − wanted| ≤ atol + rtol·|wanted|, with NaN equal to NaN. A standard error of the angle counts to
    three digits: it is an integral over a likelihood, whose logarithm is large and so keeps few digits behind the point. For the same
    reason the maximum of a flat likelihood is known to a part of its width only: a hundredth of the angle's own error is no difference.
    A wide standard error is that of a likelihood with several maxima, as of a pattern that a network hardly knows: it rests on their
    weights, the exponentials of those logarithms, and keeps fewer digits the wider it is.
    """
    if found.shape != wanted.shape:
        return GoldenCheck(name, int(wanted.size), int(max(wanted.size, 1)), float("inf"), ())
    first, second = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        difference = first - second
    allowed: np.ndarray = np.zeros(())
    if name.split("_")[0] == "angle" and not name.startswith("angle_sigma") and beside is not None and "symmetry" in beside:
        period = 2 * np.pi / np.maximum(beside["symmetry"], 1)
        difference = difference - period * np.round(difference / period)
        allowed = ANGLE_SHARE * np.nan_to_num(np.asarray(beside.get("angle_sigma", 0.0), dtype=np.float64), posinf=0.0)
    same = (np.isnan(first) & np.isnan(second)) | (first == second)
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, np.abs(difference)))
    size = np.abs(np.where(np.isfinite(second), second, 0.0))
    wider = np.maximum(1.0, size / WIDE) if name.startswith("angle_sigma") else 1.0
    differs = difference > spec.golden_atol + allowed + relative_tolerance(name, spec) * wider * size
    if not difference.size:
        return GoldenCheck(name, 0, 0, 0.0, ())
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return GoldenCheck(name, int(difference.size), int(differs.sum()), float(difference[worst]), tuple(int(i) for i in worst))
