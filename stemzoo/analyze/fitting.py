"""An encoder fitted to the columns of one file, as a bundle. The one place of the analysis that needs the extra `train`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from stemzoo.analyze.options import AUTO, AnalyzeOptions, Progress, parse_window
from stemzoo.analyze.window import propose
from stemzoo.errors import ModelError
from stemzoo.io.outputs import stem_of
from stemzoo.runtime import pipeline
from stemzoo.runtime.bundle import Bundle
from stemzoo.types import Analysis

if TYPE_CHECKING:
    from stemzoo.training.encoding_config import EncoderConfig

MOST_STEPS = 600  # more teach a fitted encoder little: 4,000 columns are learned in 400
SAMPLES = (20, 48)  # a fitted encoder sees its window with no fewer and no more samples a side


def fit_to(
    analysis: Analysis, options: AnalyzeOptions, folder: Path, progress: Progress | None, config: EncoderConfig | None = None
) -> tuple[Bundle, float]:
    """Fit an encoder to the analysis' own sub-images, write it to `folder` as a bundle; return that, opened, and the window [px].

    Args: config: how it is trained; None takes the defaults with the latents and the seed of the options.
    Raises: ModelError where the extra `train` is not installed; DatasetError for too few columns.
    """
    try:
        from stemzoo.export.bundle import write_bundle
        from stemzoo.training.encoding import fit_encoder, task_parts
        from stemzoo.training.encoding_config import EncoderConfig
    except ImportError as error:
        if (error.name or "").startswith("stemzoo"):
            raise
        raise ModelError(f"fitting an encoder needs {error.name}, which is not installed; pip install 'stemzoo[train]'") from error
    if options.window == AUTO:
        window = propose(analysis, latents=options.latents, seed=options.seed, progress=progress).window_px
    else:
        window = parse_window(options.window, analysis.frames.pixel_size) or pipeline.window_for(analysis)
    size = min(max(round(window), SAMPLES[0]), SAMPLES[1])
    pieces = pipeline.subimages(analysis, window, size)
    task = fit_encoder(pieces, config or EncoderConfig(latents=options.latents, seed=options.seed, max_steps=MOST_STEPS), progress)
    modules, draft = task_parts(task)
    whole = pieces.data[pieces.inside]
    proof = [{"subimages": whole[first : first + n]} for first, n in ((0, 5), (5, 2), (7, 1), (8, 33))]
    stem = re.sub(r"[^a-z0-9]+", "-", stem_of(analysis.frames.path).lower()).strip("-") or "frame"
    source = Path(analysis.frames.path).name
    write_bundle(
        folder,
        modules,
        {
            "name": f"fitted-{stem}",
            "version": 1,
            "materials": [source],
            "licence": "unstated",
            "citation": f"Fitted to the columns of {source} with stemzoo {analysis.version}",
            **draft,
            "title": f"Encoder fitted to {source}",
            "limits": [
                *draft.get("limits", ()),
                f"Fitted to the columns of {source} alone: its latents and angles compare columns within that file.",
            ],
        },
        cases=proof,
    )
    return Bundle.load(folder), window
