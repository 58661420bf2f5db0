"""The figure of a study of windows says what it shows, for one size as for several."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.report.field import field_of
from stemzoo.report.study import Trial, study_figure
from stemzoo.types import Analysis


@pytest.mark.parametrize("sizes", [1, 2, 3])
def test_every_word_lies_within_the_figure(analysis: Analysis, sizes: int) -> None:
    assert analysis.encoding is not None
    trial = Trial("6 Å, 2.3 spacings", 0.86, "stability 0.98, fidelity 0.88", analysis.encoding, np.ones((12, 12)), 24.0, True)
    figure = study_figure(field_of(analysis), [trial] * sizes)
    figure.canvas.draw()
    extents = [text.get_window_extent() for text in figure.texts]
    assert all(place.x0 >= 0 and place.x1 <= figure.bbox.x1 for place in extents)
    assert extents[1].y0 > max(axes.title.get_window_extent().y1 for axes in figure.axes), "and not on the titles of the sizes"
