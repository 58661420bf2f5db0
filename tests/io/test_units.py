"""What files say of their scale, as Å per pixel: every unit by its length, and the border at which pixels count as square."""

from __future__ import annotations

import pytest

from stemzoo.errors import PixelSizeError
from stemzoo.io.units import Axis, angstrom, is_reciprocal, pixel_size


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        *(("nm", 10.0), ("[n_m]", 10.0), (" NM ", 10.0), ("pm", 0.01), ("um", 1e4), ("\u00b5m", 1e4), ("\u03bcm", 1e4), ("m", 1e10)),
        *(("meters", 1e10), ("\u00c5", 1.0), ("\u212b", 1.0), ("A", 1.0), ("Angstrom", 1.0)),
        *(("cm", 1e8), ("mm", 1e7), ("", None), ("px", None), ("1/nm", None), ("eV", None), ("furlong", None)),
    ],
)
def test_units(unit: str, expected: float | None) -> None:
    assert angstrom(unit) == expected


@pytest.mark.parametrize("unit", ["1/nm", "1 / nm", "nm^-1", "1/m", "Å⁻¹", "mrad", "[n_m^-1]"])
def test_reciprocal_units(unit: str) -> None:
    assert is_reciprocal(unit) and not is_reciprocal("nm")


@pytest.mark.parametrize(
    ("step", "unit", "notice"),
    [
        (1.0, "", "not calibrated"),
        (0.0, "nm", "is no pixel size"),
        (float("nan"), "nm", "is no pixel size"),
        (0.03, "furlong", "in 'furlong', which is no length"),
        (7.0, "px", "scale of 7 has no unit, so the pixel size is unknown"),
        (5.0, "nm", "50 Å/px lies outside"),
    ],
)
def test_calibrations_that_say_nothing(step: float, unit: str, notice: str) -> None:
    size, notices = pixel_size((Axis(step, unit), Axis(step, unit)), "a.dm3")
    assert size is None and notice in notices[0]


def test_negative_scales_are_lengths() -> None:
    assert pixel_size((Axis(-0.02, "nm"), Axis(0.02, "nm")), "a.dm3") == (pytest.approx(0.2), ())


def test_pixels_are_square_within_a_hundredth() -> None:
    size, notices = pixel_size((Axis(0.2, "Å"), Axis(0.2 * 1.009, "Å")), "a.dm4")
    assert size == pytest.approx(0.2009, abs=1e-4) and "their mean" in notices[0]
    with pytest.raises(PixelSizeError, match=r"a\.dm4: .* 1\.1 % apart; wanted square within 1 %"):
        pixel_size((Axis(0.2, "Å"), Axis(0.2 * 1.011, "Å")), "a.dm4")


@pytest.mark.parametrize("axes", [("Å", "furlong"), ("furlong", "Å")])
def test_a_scale_of_which_one_unit_is_no_length_is_ignored(axes: tuple[str, str]) -> None:
    size, notices = pixel_size((Axis(0.2, axes[0]), Axis(0.2, axes[1])), "a.dm4")
    assert size is None and notices == ("the file's scale is in 'furlong', which is no length; it was ignored",)
