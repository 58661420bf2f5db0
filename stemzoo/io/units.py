"""A file's own calibration to one pixel size in Å/px, or to a sentence that says why not.

Owns the spelling of units, the rule for square scan pixels and the range in which an atomic-resolution frame can lie. Called by io.read
and by the readers beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stemzoo.errors import PixelSizeError

PLAUSIBLE = (0.005, 2.0)
"""Å/px between which a frame can show atomic columns: at most some 500 pixels across a column, at least one."""

SQUARE_TOLERANCE = 0.01
"""Relative difference of the two pixel sizes above which a frame is refused."""

# Keys are lower case, without brackets, blanks and the `_` of EMD files (`n_m`).
_ANGSTROM = {
    **dict.fromkeys(("a", "å", "\u212b", "ang", "angstrom", "angstroms", "ångström", "ångstrom"), 1.0),
    **dict.fromkeys(("pm", "picometer", "picometers", "picometre"), 0.01),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 10.0),
    **dict.fromkeys(("um", "µm", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e4),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre"), 1e7),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre"), 1e8),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e10),
}
_NONE = ("", "px", "pix", "pixel", "pixels", "<undefined>", "undefined", "none", "unknown", "au", "a.u.", "arb")
_NOT_LENGTH = ("rad", "mrad", "urad", "µrad", "deg", "ev", "kev", "s", "sec", "ms", "hz")


@dataclass(frozen=True, slots=True)
class Axis:
    """One image axis as its file states it: `step` per pixel, in `unit` as spelled there."""

    step: float
    unit: str = ""


def angstrom(unit: str) -> float | None:
    """Return how many Å one `unit` is, or None where it is no length.

    >>> angstrom("nm"), angstrom("[n_m]"), angstrom("1/nm"), angstrom("")
    (10.0, 10.0, None, None)
    """
    return _ANGSTROM.get(_plain(unit))


def is_length_missing(unit: str) -> bool:
    """Return True where `unit` says nothing: empty, pixels, undefined."""
    return _plain(unit) in _NONE


def is_reciprocal(unit: str) -> bool:
    """Return True for the axes of diffraction patterns and Fourier transforms (1/nm, nm^-1, Å⁻¹, mrad)."""
    plain = _plain(unit)
    return plain.startswith("1/") or plain.endswith(("^-1", "**-1", "⁻¹", "-1")) or plain.endswith("rad")


def is_other_quantity(unit: str) -> bool:
    """Return True for an axis of energy, time or angle."""
    return _plain(unit) in _NOT_LENGTH


def _plain(unit: str) -> str:
    return unit.strip().strip("[]()").replace("_", "").replace(" ", "").lower()


def pixel_size(axes: tuple[Axis, Axis] | None, what: str) -> tuple[float | None, tuple[str, ...]]:
    """Return the pixel size [Å/px] that a file's (y, x) axes state, or None, and a notice for each decision.

    Args:
        axes: (y, x), or None where the format holds no calibration.
        what: the file, for messages.

    Raises: PixelSizeError if the scan pixels differ by more than `SQUARE_TOLERANCE`.
    """
    if axes is None:
        return None, ("the file stores no pixel size",)
    factors = tuple(angstrom(axis.unit) for axis in axes)
    steps = tuple(abs(float(axis.step)) for axis in axes)
    if not all(math.isfinite(step) and step > 0 for step in steps):
        return None, (f"the file's scale {axes[0].step:g} × {axes[1].step:g} is no pixel size; it was ignored",)
    if factors[0] is None or factors[1] is None:
        return None, (_uncalibrated(axes, steps),)
    sizes = (steps[0] * factors[0], steps[1] * factors[1])
    mean = math.sqrt(sizes[0] * sizes[1])  # which may vanish
    if not mean:
        return None, (f"the file's scale {axes[0].step:g} × {axes[1].step:g} is no pixel size; it was ignored",)
    difference = abs(sizes[0] - sizes[1]) / mean
    if difference > SQUARE_TOLERANCE:
        raise PixelSizeError(
            f"{what}: scan pixels are {sizes[0]:.5g} Å high and {sizes[1]:.5g} Å wide, {100 * difference:.1f} % apart; "
            f"wanted square within {100 * SQUARE_TOLERANCE:g} %; resample the image to square pixels, "
            "or pass --pixel-size Å if the file's calibration is wrong"
        )
    if not PLAUSIBLE[0] <= mean <= PLAUSIBLE[1]:
        return None, (
            f"the file's pixel size of {mean:.4g} Å/px lies outside {PLAUSIBLE[0]:g}–{PLAUSIBLE[1]:g} Å/px, where columns can be seen; "
            "it was ignored (a wrong unit is the usual reason): pass --pixel-size Å",
        )
    if difference > 1e-4:
        return mean, (f"scan pixels are {sizes[0]:.5g} Å high and {sizes[1]:.5g} Å wide; their mean, {mean:.5g} Å/px, is used",)
    return mean, ()


def _uncalibrated(axes: tuple[Axis, Axis], steps: tuple[float, ...]) -> str:
    odd = next((axis.unit for axis in axes if angstrom(axis.unit) is None and not is_length_missing(axis.unit)), None)
    if odd is not None:
        return f"the file's scale is in {odd!r}, which is no length; it was ignored"
    if steps == (1.0, 1.0):
        return "the file is not calibrated (scale 1, no unit)"
    as_nm = 10 * math.sqrt(steps[0] * steps[1])
    hint = f"; if it is in nm, pass --pixel-size {as_nm:.4g}" if PLAUSIBLE[0] <= as_nm <= PLAUSIBLE[1] else ""
    return f"the file's scale of {steps[0]:.4g} has no unit, so the pixel size is unknown{hint}"
