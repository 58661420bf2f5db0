"""One input file to one folder of results: the public functions behind `stemzoo analyze`, `locate` and `encode`.

`options` owns what a user may choose, `models` which networks run, `source` which frames are read, `fitting` the encoder fitted to one
file, `files` the order read → locate → encode → tables, results, report. Called by the command line, and by anyone who scripts whole files.
"""

from stemzoo.analyze.files import Outcome, analyze_file, encode_file, fit_file, locate_file
from stemzoo.analyze.models import Models, load_encoder
from stemzoo.analyze.options import AUTO, NONE, AnalyzeOptions, Progress, parse_frames, parse_window

__all__ = [
    "AUTO",
    "NONE",
    "AnalyzeOptions",
    "Models",
    "Outcome",
    "Progress",
    "analyze_file",
    "encode_file",
    "fit_file",
    "load_encoder",
    "locate_file",
    "parse_frames",
    "parse_window",
]
