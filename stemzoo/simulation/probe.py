"""The probe: from optics to the transfer function of incoherent imaging. Owns wavelengths and aberrations.

Called by `simulation.render`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemzoo.simulation.interpolate import bilinear

_GRID = 192


@dataclass(frozen=True)
class Optics:
    """A probe-forming lens and its source.

    Args:
        energy_kev: beam energy.
        convergence_mrad: semi-angle of the aperture.
        defocus_nm: C1, positive is underfocus.
        astigmatism_nm, astigmatism_deg: two-fold astigmatism A1 and its direction.
        coma_nm, coma_deg: axial coma B2 and its direction.
        spherical_um: C3.
        source_fwhm: effective source size, with vibration and chromatic blur [Å].
    """

    energy_kev: float = 200.0
    convergence_mrad: float = 25.0
    defocus_nm: float = 0.0
    astigmatism_nm: float = 0.0
    astigmatism_deg: float = 0.0
    coma_nm: float = 0.0
    coma_deg: float = 0.0
    spherical_um: float = 0.0
    source_fwhm: float = 0.8


def wavelength(energy_kev: float) -> float:
    """Return the relativistic electron wavelength [Å].

    >>> round(wavelength(200), 4)
    0.0251

    Source: λ = h / √(2 m e V (1 + eV / 2mc²)), CODATA constants.
    """
    volts = energy_kev * 1e3
    return 12.2642596 / math.sqrt(volts * (1 + 0.97847538e-6 * volts))


def _centring(otf: np.ndarray, axis: np.ndarray, source_sigma: float) -> np.ndarray:
    """The phase ramp that puts the probe's origin where a symmetric peak fits it best.

    Coma moves the whole image; since nothing in a frame tells of such a shift, a column's true position is taken without it. The
    ramp is the least-squares fit of the transfer function's phase, weighted by what each frequency says of a position.
    """
    qy, qx = axis[:, None], axis[None]
    q2 = qy**2 + qx**2
    weight = np.abs(otf * np.exp(-2 * (np.pi * source_sigma) ** 2 * q2)) ** 2
    phase = np.angle(otf)
    moments = np.array([[(weight * qy * qy).sum(), (weight * qy * qx).sum()], [(weight * qy * qx).sum(), (weight * qx * qx).sum()]])
    slope = np.linalg.solve(moments, np.array([(weight * phase * qy).sum(), (weight * phase * qx).sum()]))
    return np.asarray(np.exp(-1j * (slope[0] * qy + slope[1] * qx)))


def transfer(optics: Optics, fy: np.ndarray, fx: np.ndarray) -> np.ndarray:
    """Return the optical transfer function of incoherent ADF imaging: the Fourier transform of the probe's intensity.

    Args:
        fy, fx: spatial frequencies [1/Å] of the rows and of the columns, (H,) or (H, 1) and (W,) or (1, W).
    Returns: (H, W) complex64, 1 at zero frequency.
    Source: Kirkland, Advanced Computing in Electron Microscopy, ch. 3; aberration function
    χ = (2π/λ)(½C1θ² + ½A1θ²cos2φ + ⅓B2θ³cosφ + ¼C3θ⁴).
    """
    lam = wavelength(optics.energy_kev)
    alpha = optics.convergence_mrad * 1e-3
    # The intensity holds frequencies up to 2α/λ: sample it a little finer than that.
    spacing = lam / (4.4 * alpha)
    axis = np.fft.fftfreq(_GRID, spacing)
    theta = lam * np.hypot(axis[:, None], axis[None])
    phi = np.arctan2(axis[:, None], axis[None])
    chi = 0.5 * theta**2 * (optics.defocus_nm * 10 + optics.astigmatism_nm * 10 * np.cos(2 * (phi - math.radians(optics.astigmatism_deg))))
    chi += theta**3 * optics.coma_nm * 10 / 3 * np.cos(phi - math.radians(optics.coma_deg)) + theta**4 * optics.spherical_um * 1e4 / 4
    edge = lam * axis[1]
    aperture = np.clip((alpha - theta) / edge + 0.5, 0, 1)
    amplitude = np.fft.ifft2(aperture * np.exp(-2j * np.pi / lam * chi))
    otf = np.fft.fft2(np.abs(amplitude) ** 2)
    otf /= otf[0, 0].real
    otf *= _centring(otf, axis, optics.source_fwhm / 2.3548)
    shifted = np.fft.fftshift(otf).astype(np.complex64)
    step = axis[1]
    sampled = bilinear(shifted, np.ravel(fy) / step + _GRID // 2, np.ravel(fx) / step + _GRID // 2)
    blur = -2 * (np.pi * optics.source_fwhm / 2.3548) ** 2
    sampled *= np.outer(np.exp(blur * np.ravel(fy) ** 2), np.exp(blur * np.ravel(fx) ** 2)).astype(np.float32)
    return sampled
