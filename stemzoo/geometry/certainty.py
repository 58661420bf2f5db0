"""How well the columns of a fit are known once it rests. Owns `Certainty`, their covariances and standard errors; NumPy only.

Called by refine.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from stemzoo.geometry.columnmodel import CORE, Normal
from stemzoo.geometry.coupling import covariance
from stemzoo.geometry.gram import whitening
from stemzoo.geometry.jointfit import OVERLAP, JointFit


class Certainty:
    """Covariances and standard errors of the columns of `fit`, as it stands whenever they are asked for."""

    def __init__(self, fit: JointFit) -> None:
        self.fit = fit
        self._cover = np.zeros((CORE, CORE, 0))
        self._of: Optional[Normal] = None  # the normal equations that the covariance was worked out from

    def covariance(self) -> np.ndarray:
        """Return the covariance (4, 4, n) of y, x [px], amplitude and log width, overlapping neighbours and background unknown; NaN where
        singular. Held columns are taken as free where nobody overlaps with them."""
        fit = self.fit
        if self._of is not fit.normal:
            cover = self._joint()
            lost = np.isnan(cover).any(axis=(0, 1))
            if lost.any():  # overlaps worked out some iterations ago may no longer go with what is known of each column now
                fit.couple()
                cover[:, :, lost] = self._joint()[:, :, lost]
            to_px = np.eye(CORE)
            to_px[:2, :2] = np.linalg.cholesky(fit.state.shape)
            self._cover, self._of = np.einsum("ia,abn,jb->ijn", to_px, cover, to_px), fit.normal
        return self._cover

    def _joint(self) -> np.ndarray:
        state = self.fit.state
        return covariance(self.fit.equations(), whitening(state.shape) @ state.yx.T, OVERLAP * self.fit.width)

    def errors(self, wider: np.ndarray) -> np.ndarray:
        """Return the standard errors (n, 2) [px] of y and x, where the frame's noise moves fits `wider` (n, 2) times as far as was thought;
        NaN where singular."""
        trust, square = self.fit.trust, np.diag(self.fit.state.shape)
        posterior = np.einsum("iin->ni", self.covariance()[:2, :2])
        if trust is not None:
            posterior = square * trust.drawn(posterior / square, self.fit.prior(trust)[:, None], wider**2)
            wider = np.ones(2)
        with np.errstate(invalid="ignore"):
            error: np.ndarray = np.sqrt(posterior) * wider
        return error

    def start_errors(self) -> Optional[np.ndarray]:
        """Return the standard errors (n, 2) [px] of y and x of columns that are left at their starts; None where those say nothing."""
        if self.fit.trust is None:
            return None
        error: np.ndarray = np.sqrt(self.fit.trust.left(self.fit.alone()))[:, None] * np.sqrt(np.diag(self.fit.state.shape))
        return error
