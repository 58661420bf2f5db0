"""The parts of a plan as one Analysis, as far as memory goes. Called by analyze.fitting and analyze.pieces."""

from __future__ import annotations

from dataclasses import replace

import stemzoo
from stemzoo.analyze.plan import Plan
from stemzoo.analyze.source import Chosen
from stemzoo.errors import FrameError
from stemzoo.types import Analysis, Columns, Encoding, Frames, Quality


def gather(plan: Plan, stage: str, frames: Frames, limit: int) -> tuple[Analysis, list[int]]:
    """Return the analysis of as many frames, evenly drawn from those that did not fail, as have at most `limit` columns together.

    Returns: the Analysis, its columns with their frames' numbers in the file, and the chosen frames, counted from the first analysed.
    Raises: FrameError with the first frame's reason where all failed.
    """
    facts = [plan.journal.facts(stage, number) for number in range(len(plan.batches))]
    failed = {failure["frame"]: failure["reason"] for fact in facts for failure in fact["failures"]}
    counts = [table["n"] for fact in facts for table in fact["per_frame"]]
    good = [index for index in range(plan.n_frames) if plan.first + index not in failed]
    if not good:
        raise FrameError(next(iter(failed.values())))
    step = max(1, -(-sum(counts) // limit))
    chosen = good[::step]
    wanted = set(chosen)
    columns: list[Columns] = []
    encoding: list[Encoding] = []
    quality: list[Quality] = []
    for number, (a, b) in enumerate(plan.batches):
        if not wanted.isdisjoint(range(a, b)):
            part = plan.journal.load(stage, number)
            columns += [part.columns[index - a] for index in range(a, b) if index in wanted]
            encoding += [part.encoding[index - a] for index in range(a, b) if index in wanted] if part.encoding else []
            quality += [part.quality[index - a] for index in range(a, b) if index in wanted] if part.quality else []
    seconds: dict[str, float] = {}
    for fact in facts:
        for name, value in fact["seconds"].items():
            seconds[name] = seconds.get(name, 0.0) + value
    analysis = Analysis(
        frames=frames if len(chosen) == len(frames) else replace(frames, data=Chosen(frames.data, chosen)),
        columns=tuple(columns),
        segmenter=plan.segmenter,
        encoding=Encoding.joined(encoding) if encoding and sum(counts) else None,
        sampling_factor=plan.factor,
        notices=frames.notices,
        seconds=seconds,
        version=stemzoo.__version__,
        sampling=None if plan.scale is None else plan.scale.sampling,
        quality=tuple(quality),
    )
    return analysis, chosen
