"""Input files to folders of results: the public functions behind `stemzoo analyze`, `locate` and `encode`.

`options` owns what a user may choose, `models` which networks run, `choosing` which encoder fits, `source` which frames are read, `plan`
how one file is worked through, `batch` how some of its frames are, `journal` what is kept meanwhile, `gather` how that is taken together
again, `fitting` the encoder fitted to one file, `pieces` what of its results is written side by side, `finish` the folder of them,
`outcome` what is told of it, `window` how large a sub-image should be and `study` the figure of it, `many` the loop over all inputs,
`cluster` the same on Dask, `joint` the one table of them, `files` the calls for one file. Called by the command line, and by scripts.
"""

from stemzoo.analyze.files import analyze_file, encode_file, fit_file, locate_file
from stemzoo.analyze.many import Here, run
from stemzoo.analyze.models import Models
from stemzoo.analyze.options import AUTO, NONE, AnalyzeOptions, Progress, parse_frames, parse_window
from stemzoo.analyze.outcome import Outcome
from stemzoo.analyze.plan import Request
from stemzoo.analyze.study import WindowStudy, study_window

__all__ = [
    "AUTO",
    "NONE",
    "AnalyzeOptions",
    "Here",
    "Models",
    "Outcome",
    "Progress",
    "Request",
    "WindowStudy",
    "analyze_file",
    "encode_file",
    "fit_file",
    "locate_file",
    "parse_frames",
    "parse_window",
    "run",
    "study_window",
]
