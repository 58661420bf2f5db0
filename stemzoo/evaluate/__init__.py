"""A segmenter held against truth: detection, position, stated errors and confidence over a dataset, by material, dose or scale. No torch.

`evaluate` runs a model over a dataset's frames (run), `summarise` turns what they showed into Scores (scores), `calibration` holds the
stated confidence against what came true and fits it, `figure` draws all of it. Called by `stemzoo evaluate`, by the scripts that write the
zoo's cards, and by tests.
"""

from stemzoo.evaluate.calibration import CalibrationCurve, calibration_curve, calibration_error, fit_calibration
from stemzoo.evaluate.run import BORDER, RESOLVABLE, TOLERANCE, evaluate, frame_scores, score_frame
from stemzoo.evaluate.scores import GROUPINGS, FrameScore, Score, summarise

__all__ = [
    "BORDER",
    "GROUPINGS",
    "RESOLVABLE",
    "TOLERANCE",
    "CalibrationCurve",
    "FrameScore",
    "Score",
    "calibration_curve",
    "calibration_error",
    "evaluate",
    "fit_calibration",
    "frame_scores",
    "score_frame",
    "summarise",
]
