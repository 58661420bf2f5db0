"""One input file to one folder of results: the public functions behind `stemzoo analyze`, `locate` and `encode`.

Owns the order read → locate → encode → tables, results, report, what is written where, and which models run when none is named. A folder
is whole or not there. Called by the command line, and by anyone who scripts whole files.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stemzoo.errors import FrameError, ModelError, PixelSizeError, TableError
from stemzoo.io.outputs import new_folder, stem_of
from stemzoo.io.read import read
from stemzoo.types import Analysis, Frames, check_pixel_size

if TYPE_CHECKING:
    from stemzoo.report.html import ModelNote
    from stemzoo.report.summary import Summary
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.encoder import Encoder
    from stemzoo.runtime.segmenter import Segmenter

Progress = Callable[[str, int, int], None]
AUTO, NONE = "auto", "none"
SAMPLES = (20, 48)  # a fitted encoder sees its window with no fewer and no more samples a side


@dataclass(frozen=True, slots=True)
class AnalyzeOptions:
    """What a user may choose.

    Args:
        model: name of the segmenter; None takes the zoo's default.
        encoder: name of the encoder; `auto` the zoo's default, `none` no encoding.
        fit_encoder: fit an encoder to this file's own sub-images instead; needs the extra `train`.
        latents: number of latents of a fitted encoder; seed: of its training.
        pixel_size: Å/px, overrides the file's.
        window: extent of the sub-images, `12Å` or `48px`; None takes the encoder's own, or for a fitted one 2.75 column spacings.
        frames: `a:b`, which frames of a stack; None takes all.
        threshold: lowest accepted probability; None takes the model's own.
        report: draw figures and report.html. force: replace a folder that holds other files.
    """

    model: str | None = None
    encoder: str = AUTO
    fit_encoder: bool = False
    latents: int = 2
    seed: int = 0
    pixel_size: float | None = None
    window: str | None = None
    frames: str | None = None
    threshold: float | None = None
    report: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        check_pixel_size(self.pixel_size, "--pixel-size")
        if not 1 <= self.latents <= 16:
            raise ModelError(f"--latents is {self.latents}; wanted 1 to 16")
        if self.fit_encoder and self.encoder not in (AUTO, NONE):
            raise ModelError(
                f"--fit-encoder fits an encoder to this file, --encoder {self.encoder} names a finished one; pass one of the two"
            )
        parse_window(self.window, 1.0)
        parse_frames(self.frames, 1 << 30)

    def as_text(self) -> dict[str, str]:
        """Return the options that differ from their defaults, for provenance."""
        defaults = AnalyzeOptions
        chosen = {name: getattr(self, name) for name in defaults.__dataclass_fields__}
        return {name: str(value) for name, value in chosen.items() if value != defaults.__dataclass_fields__[name].default}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one input gave.

    Args: input: as named by the user. folder: where the results are. summary: the numbers. analysis: everything.
    """

    input: str
    folder: Path
    summary: Summary
    analysis: Analysis
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models, shared by all inputs of a command; `notices` say how they were chosen."""

    segmenter: Segmenter
    encoder: Encoder | None = None
    notices: tuple[str, ...] = ()

    @classmethod
    def load(cls, options: AnalyzeOptions, *, encode: bool = True) -> Models:
        """Load what the options name. Raises: ModelError with the near names."""
        from stemzoo.runtime.bundle import Bundle
        from stemzoo.runtime.segmenter import Segmenter
        from stemzoo.zoo import catalog

        folder = catalog.default("segmentation") if options.model is None else catalog.resolve(options.model)
        segmenter = Segmenter(Bundle.load(folder))
        if not encode or options.fit_encoder or options.encoder == NONE:
            return cls(segmenter)
        encoder, notices = load_encoder(options.encoder)
        return cls(segmenter, encoder, notices)


def load_encoder(name: str) -> tuple[Encoder | None, tuple[str, ...]]:
    """Return the encoder called `name`, or the zoo's default for `auto` with a notice that says what it was trained on."""
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.encoder import Encoder
    from stemzoo.zoo import catalog
    from stemzoo.zoo.card import read_card

    if name != AUTO:
        return Encoder(Bundle.load(catalog.resolve(name))), ()
    if not any(entry.card.task == "encoding" and entry.card.default for entry in catalog.entries()):
        return None, ("No zoo has a default encoder, so there are no angles or latents; pass --fit-encoder or --encoder NAME",)
    folder = catalog.default("encoding")
    card = read_card(folder)[0]
    said = (
        f"Angles and latents are from the zoo's default encoder {card.id}, trained on {', '.join(card.materials)}; "
        "for another material pass --fit-encoder, --encoder NAME or --encoder none"
    )
    return Encoder(Bundle.load(folder)), (said,)


def analyze_file(
    path: str, out: Path, options: AnalyzeOptions | None = None, *, models: Models | None = None, progress: Progress | None = None
) -> Outcome:
    """Analyse one file into the folder `out`: columns.csv, analysis.h5, report.html and figures; with a fitted encoder also encoder/.

    Args: path: a file, or FILE::NAME for one of several signals. models: loaded before, to serve many files.
    Raises: StemzooError of any kind; then, as after ^C, `out` is as it was before.
    """
    from stemzoo.runtime import pipeline
    from stemzoo.runtime.encoder import Encoder

    options = options or AnalyzeOptions()
    with new_folder(out, options.force) as folder:
        frames, first = _read(path, options)
        models = models or Models.load(options)
        recording = _recording(models.segmenter)
        analysis = pipeline.locate(frames, recording, pipeline.LocateOptions(threshold=options.threshold), progress)
        encoder = models.encoder
        notices = models.notices
        if any(len(columns) for columns in analysis.columns):
            window = parse_window(options.window, frames.pixel_size)
            if options.fit_encoder:
                start = time.perf_counter()
                bundle, window = _fit(analysis, options, folder / "encoder", progress)
                encoder = Encoder(bundle)
                analysis = replace(analysis, seconds={**analysis.seconds, "fit_encoder": time.perf_counter() - start})
            if encoder is not None:
                analysis = pipeline.encode(analysis, encoder, pipeline.EncodeOptions(window_px=window), progress)
        analysis = replace(analysis, notices=(*analysis.notices, *notices))
        probability = None if recording.first is None else np.clip(recording.first, 0, 1)
        return _write(path, folder, Path(out), analysis, first, options, probability, models, encoder, progress)


def locate_file(
    path: str, out: Path, options: AnalyzeOptions | None = None, *, models: Models | None = None, progress: Progress | None = None
) -> Outcome:
    """Find the columns of one file and write columns.csv, ending at `fit_ok`, into the folder `out`. Raises: as `analyze_file`."""
    from stemzoo.report.summary import summarise
    from stemzoo.runtime import pipeline
    from stemzoo.runtime.tables import write_columns

    options = options or AnalyzeOptions()
    with new_folder(out, options.force) as folder:
        frames, first = _read(path, options)
        models = models or Models.load(options, encode=False)
        analysis = pipeline.locate(frames, models.segmenter, pipeline.LocateOptions(threshold=options.threshold), progress)
        analysis = _numbered(analysis, first)
        write_columns(folder / "columns.csv", analysis)
        return Outcome(path, Path(out), summarise(analysis), analysis, ("columns.csv",))


def encode_file(path: str, columns: Path, out: Path, options: AnalyzeOptions | None = None, *, progress: Progress | None = None) -> Outcome:
    """Give angle and latents to the columns of a table, ours or anyone's, and write the results as `analyze_file` does.

    Args: columns: a CSV with at least y_px and x_px.
    Raises: TableError for a table that does not fit the file; otherwise as `analyze_file`.
    """
    import stemzoo
    from stemzoo.runtime import pipeline
    from stemzoo.runtime.encoder import Encoder
    from stemzoo.runtime.tables import read_columns
    from stemzoo.types import ModelId

    options = options or AnalyzeOptions()
    if options.encoder == NONE and not options.fit_encoder:
        raise ModelError("encode with --encoder none would do nothing; pass --encoder NAME (stemzoo zoo list shows all) or --fit-encoder")
    with new_folder(out, options.force) as folder:
        frames, first = _read(path, options)
        table = read_columns(columns, len(frames), frames.pixel_size)
        analysis = Analysis(
            frames, table.columns, ModelId(f"table {columns.name}", _sha256(columns)), notices=frames.notices, version=stemzoo.__version__
        )
        if not any(len(t) for t in table.columns):
            raise FrameError(f"{columns} names no column; wanted at least one row with y_px and x_px")
        for columns_of_frame in table.columns:
            outside = ((columns_of_frame.yx < -0.5) | (columns_of_frame.yx > np.array(frames.shape) - 0.5)).any(axis=1)
            if outside.any():
                y, x = columns_of_frame.yx[outside][0]
                raise TableError(
                    f"{columns}: column at y {y:.1f}, x {x:.1f} px of frame {columns_of_frame.frame} lies outside the "
                    f"{frames.shape[0]}×{frames.shape[1]} px of {path}; are y and x exchanged, or is it another frame's table?"
                )
        window = parse_window(options.window, frames.pixel_size)
        encoder: Encoder | None
        notices: tuple[str, ...] = ()
        if options.fit_encoder:
            bundle, window = _fit(analysis, options, folder / "encoder", progress)
            encoder = Encoder(bundle)
        else:
            encoder, notices = load_encoder(options.encoder)
        if encoder is None:
            raise ModelError("no encoder: no zoo has a default one; pass --encoder NAME (stemzoo zoo list shows all) or --fit-encoder")
        analysis = pipeline.encode(analysis, encoder, pipeline.EncodeOptions(window_px=window), progress)
        analysis = replace(analysis, notices=(*analysis.notices, *notices))
        return _write(path, folder, Path(out), analysis, first, options, None, None, encoder, progress)


def parse_window(text: str | None, pixel_size: float | None) -> float | None:
    """Return a window in pixels of the frame from `12Å`, `12A` or `48px`; None stays None.

    >>> parse_window("12Å", 0.2), parse_window("48 px", None)
    (60.0, 48.0)
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(px|Å|A|Angstrom|angstrom)\s*", text)
    if not found or float(found[1]) <= 0:
        raise ModelError(f"--window {text!r} has no length and unit; wanted for example --window 12Å or --window 48px")
    if found[2] == "px":
        return float(found[1])
    if pixel_size is None:
        raise PixelSizeError(f"--window {text!r} is in Å, but the pixel size is unknown; pass --pixel-size Å, or a window in px")
    return float(found[1]) / pixel_size


def parse_frames(text: str | None, total: int) -> tuple[int, int]:
    """Return (first, end) of `a:b`, counted from 0, end left out; either may be missing.

    >>> parse_frames("2:", 10), parse_frames(None, 3)
    ((2, 10), (0, 3))
    """
    if text is None:
        return 0, total
    found = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text)
    first = int(found[1] or 0) if found else 0
    end = int(found[2] or total) if found else 0
    if not found or first >= min(end, total):
        raise FrameError(f"--frames {text!r} chooses no frame of {total}; wanted a:b with a < b, counted from 0 (e.g. --frames 0:10)")
    return first, min(end, total)


class _Part:
    """Some frames of a stack, still read one at a time."""

    def __init__(self, data: Any, first: int, end: int) -> None:
        self._data, self._first = data, first
        self.shape = (end - first, *data.shape[1:])
        self.dtype = data.dtype

    def __getitem__(self, index: int) -> Any:
        return self._data[self._first + index]


def _read(path: str, options: AnalyzeOptions) -> tuple[Frames, int]:
    frames = read(path, options.pixel_size)
    first, end = parse_frames(options.frames, len(frames))
    if (first, end) == (0, len(frames)):
        return frames, 0
    said = f"Frames {first} to {end - 1} of {len(frames)} were analysed; they keep their numbers"
    return replace(frames, data=_Part(frames.data, first, end), notices=(*frames.notices, said)), first


def _numbered(analysis: Analysis, first: int) -> Analysis:
    """Return the analysis with frames counted from `first`, their number in the file."""
    if first == 0:
        return analysis
    encoding = analysis.encoding
    return replace(
        analysis,
        columns=tuple(replace(columns, frame=columns.frame + first) for columns in analysis.columns),
        encoding=None if encoding is None else replace(encoding, frame=np.asarray(encoding.frame) + first),
    )


def _recording(segmenter: Segmenter) -> Any:
    """Return the segmenter, keeping the probability (h, w) that it gives for the first frame, summed over classes, as `first`."""
    from stemzoo.runtime.segmenter import Segmenter

    class Recording(Segmenter):
        first: np.ndarray | None = None

        def probabilities(self, image: np.ndarray) -> np.ndarray:
            result = super().probabilities(image)
            if self.first is None:
                self.first = result.sum(axis=0)
            return result

    return Recording(segmenter.bundle, segmenter.max_tile_px)


def fit_file(
    path: str, out: Path, options: AnalyzeOptions | None = None, columns: Path | None = None, progress: Progress | None = None
) -> Path:
    """Fit an encoder to the columns of one file and write it to the folder `out` as a bundle; return `out`.

    Args: columns: a CSV with at least y_px and x_px; None locates them first.
    Raises: StemzooError of any kind; then `out` is as it was before.
    """
    import stemzoo
    from stemzoo.runtime import pipeline
    from stemzoo.runtime.tables import read_columns
    from stemzoo.types import ModelId

    options = options or AnalyzeOptions(fit_encoder=True)
    with new_folder(out, options.force) as folder:
        frames, _ = _read(path, options)
        if columns is None:
            segmenter = Models.load(options, encode=False).segmenter
            analysis = pipeline.locate(frames, segmenter, pipeline.LocateOptions(threshold=options.threshold), progress)
        else:
            table = read_columns(columns, len(frames), frames.pixel_size)
            analysis = Analysis(frames, table.columns, ModelId(f"table {columns.name}", _sha256(columns)), version=stemzoo.__version__)
        _fit(analysis, options, folder / "bundle", progress)
        for entry in list((folder / "bundle").iterdir()):
            entry.rename(folder / entry.name)
        (folder / "bundle").rmdir()
    return Path(out)


def _fit(analysis: Analysis, options: AnalyzeOptions, folder: Path, progress: Progress | None) -> tuple[Bundle, float]:
    """Fit an encoder to the analysis' own sub-images, write it to `folder` as a bundle; return that, opened, and the window [px].

    Raises: ModelError where the extra `train` is not installed; DatasetError for too few columns.
    """
    from stemzoo.runtime import pipeline
    from stemzoo.runtime.bundle import Bundle

    try:
        from stemzoo.export.bundle import write_bundle
        from stemzoo.training.encoding import fit_encoder, task_parts
        from stemzoo.training.encoding_config import EncoderConfig
    except ImportError as error:
        if (error.name or "").startswith("stemzoo"):
            raise
        raise ModelError(f"fitting an encoder needs {error.name}, which is not installed; pip install 'stemzoo[train]'") from error
    window = parse_window(options.window, analysis.frames.pixel_size) or pipeline.window_for(analysis)
    size = min(max(round(window), SAMPLES[0]), SAMPLES[1])
    pieces = pipeline.subimages(analysis, window, size)
    task = fit_encoder(pieces, EncoderConfig(latents=options.latents, seed=options.seed), progress)
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


def _write(
    path: str,
    folder: Path,
    out: Path,
    analysis: Analysis,
    first: int,
    options: AnalyzeOptions,
    probability: np.ndarray | None,
    models: Models | None,
    encoder: Encoder | None,
    progress: Progress | None,
) -> Outcome:
    """Write tables, results and report into `folder`."""
    from stemzoo.io.results import write_results
    from stemzoo.report.html import ReportInputs, write_report
    from stemzoo.report.summary import summarise
    from stemzoo.runtime.tables import write_columns

    steps = 3 if options.report else 2
    tick = progress or (lambda stage, done, total: None)
    numbered = _numbered(analysis, first)
    write_columns(folder / "columns.csv", numbered)
    tick("write", 1, steps)
    write_results(folder / "analysis.h5", numbered, probability, options.as_text())
    tick("write", 2, steps)
    if options.report:
        notes = tuple(
            _note(role, model.bundle.folder, model.id.id, model.id.sha256)
            for role, model in (("segmenter", models.segmenter if models else None), ("encoder", encoder))
            if model is not None
        )
        decodes = encoder is not None and (encoder.bundle.folder / "decoder.onnx").is_file()
        inputs = ReportInputs(
            probability=probability,
            subimages=_first_subimages(analysis, encoder),
            decode=encoder.decode if encoder is not None and decodes else None,
            models=notes,
            options=options.as_text(),
        )
        write_report(analysis, folder, inputs)
        tick("write", 3, steps)
    return Outcome(path, out, summarise(analysis), numbered, tuple(sorted(entry.name for entry in folder.iterdir())))


def _first_subimages(analysis: Analysis, encoder: Encoder | None) -> Any:
    """Return the sub-images of frame 0, or None without an encoding."""
    from stemzoo.runtime import pipeline

    if analysis.encoding is None or analysis.window_px is None or encoder is None or not len(analysis.columns[0]):
        return None
    frames = replace(analysis.frames, data=_Part(analysis.frames.data, 0, 1))
    alone = replace(analysis, frames=frames, columns=analysis.columns[:1], encoding=None)
    return pipeline.subimages(alone, analysis.window_px, encoder.spec.window_px)


def _note(role: str, folder: Path, name: str, sha256: str) -> ModelNote:
    """Return what the report says of a model, from the card beside it."""
    from stemzoo.report.html import ModelNote
    from stemzoo.zoo.card import read_card

    card = read_card(folder)[0]
    return ModelNote(role, name, sha256, card.title, card.materials, card.limits, card.citation, card.licence)


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
