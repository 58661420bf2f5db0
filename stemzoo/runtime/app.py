"""The instrument layer's own command line, the `__main__` of `stemzoo.pyz`: analyze, locate, verify. NumPy and onnxruntime only.

    python stemzoo.pyz analyze FRAME.npy… --model NAME@1 --encoder NAME@1 --pixel-size 0.12 --out DIR
    python stemzoo.pyz verify

Models lie in `models/<name>/v<N>` beside the file. Writes the `columns.csv` that `stemzoo analyze` writes; returns 0, 1 for a refusal,
2 for usage. Called by nothing else in the package.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

import stemzoo
from stemzoo.errors import ModelError, OutputError, ReadError, StemzooError, print_anything
from stemzoo.runtime.bundle import MODEL_FILE, Bundle, sha256_of
from stemzoo.runtime.cores import keep_to, parse_cores
from stemzoo.runtime.doubts import doubts_of, with_strangeness
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.golden import verify
from stemzoo.runtime.headline import headline, median_error
from stemzoo.runtime.manifest import MANIFEST_FILE, check_manifest, check_vouched
from stemzoo.runtime.pipeline import analyze, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import PROVIDERS, SessionOptions, parse_providers
from stemzoo.runtime.tables import write_columns
from stemzoo.types import Analysis, Frames


def main(argv: Optional[List[str]] = None, home: Optional[Path] = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after `stemzoo.pyz`; those of the process if None.
        home: the folder that holds `models/`; where the running file lies if None.
    """
    print_anything()
    options = _parser().parse_args(argv)
    models = (home or Path(sys.argv[0]).resolve().parent) / "models"
    try:
        if options.cores is not None:
            keep_to(parse_cores(options.cores))
        session = SessionOptions(threads=options.threads, providers=parse_providers(options.provider))
        if options.command == "verify":
            return _verify(models, session)
        return int(_run(models, session, options) > 0)
    except StemzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stemzoo.pyz", description=f"stemzoo {stemzoo.__version__}: columns, angles and latents of a frame."
    )
    parser.add_argument("--version", action="version", version=f"stemzoo {stemzoo.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, said in (("analyze", "columns with errors, angles and latents"), ("locate", "columns with errors only")):
        command = commands.add_parser(name, help=said)
        command.add_argument("frames", metavar="FRAME.npy", nargs="+", help="a frame (H, W) or a stack (T, H, W); several, or scan*.npy")
        command.add_argument("--model", metavar="ID", help="segmenter: name, name@version or a folder; default: the only one here")
        if name == "analyze":
            command.add_argument("--encoder", metavar="ID", help="encoder, or none; default: the only one here")
        command.add_argument("--pixel-size", metavar="Å", type=float, help="Å per pixel")
        command.add_argument(
            "--out",
            metavar="DIR",
            type=Path,
            help="folder of the results, or of a folder for each of several frames; default: <stem>_stemzoo",
        )
    commands.add_parser("verify", help="check every file here and replay the golden tensors of every model")
    for command in commands.choices.values():
        command.add_argument("--threads", metavar="N", type=int, default=0, help="threads of the networks; 0: as many as there are cores")
        command.add_argument("--cores", metavar="LIST", help="stay on these cores, counted from 0, e.g. 1 or 2,4-7; the others stay free")
        command.add_argument("--provider", metavar="NAMES", help=f"run the networks on one of {', '.join(PROVIDERS)}; several in order")
    return parser


def find_models(models: Path) -> Dict[str, Path]:
    """Return the folder of each model under `models`, by `name@version`, newest version last."""
    found = {}
    for path in sorted(models.glob("*/v*/" + MODEL_FILE), key=lambda path: (path.parent.parent.name, _version(path.parent))):
        found[f"{path.parent.parent.name}@{_version(path.parent)}"] = path.parent
    return found


def _version(folder: Path) -> int:
    return int(folder.name[1:]) if folder.name[1:].isdigit() else 0


def _load(models: Path, name: Optional[str], task: str, session: SessionOptions, opened: Dict[Path, Bundle]) -> Bundle:
    """Return the model called `name`, or the only one here for `task`; keep in `opened` what was opened on the way.

    Raises: ModelError that lists what there is.
    """
    if name is not None and (Path(name) / MODEL_FILE).is_file():
        return Bundle.load(name, session)
    found = find_models(models)
    if name is not None:
        matching = [folder for key, folder in found.items() if key == name or key.split("@")[0] == name]
        if not matching:
            raise ModelError(f"unknown model {name!r}; here are {', '.join(found) or 'none'} in {models}")
        return Bundle.load(matching[-1], session)
    for folder in found.values():
        if folder not in opened:
            opened[folder] = Bundle.load(folder, session)
    fitting = [opened[folder] for folder in found.values() if opened[folder].spec.task == task]
    if len({bundle.spec.id.split("@")[0] for bundle in fitting}) != 1:
        option = "--model" if task == "segmentation" else "--encoder"
        raise ModelError(
            f"{len(fitting)} models for {task} in {models}; name one with {option}: {', '.join(b.spec.id for b in fitting) or 'none'}"
        )
    return fitting[-1]


def _run(models: Path, session: SessionOptions, options: argparse.Namespace) -> int:
    """Analyse every frame asked for, each for itself; return how many failed. Raises: StemzooError where none could be begun."""
    places = _places(_expanded(options.frames), options.out)
    opened: Dict[Path, Bundle] = {}
    segmenter = Segmenter(_load(models, options.model, "segmentation", session, opened))
    encoder = None
    if options.command == "analyze" and options.encoder != "none":
        encoder = Encoder(_load(models, options.encoder, "encoding", session, opened))
    for model in (segmenter, encoder):
        if model is not None:
            check_vouched(models.parent, model.bundle.folder / MODEL_FILE, model.bundle.sha256)
    failed = 0
    for path, place in places.items():
        try:
            _one(path, place, segmenter, encoder, options.pixel_size)
        except StemzooError as error:
            if len(places) == 1:
                raise
            failed += 1
            print(f"error: {error}", file=sys.stderr, flush=True)
    if failed:
        print(f"error: {failed} of {len(places)} frames failed, the others are done", file=sys.stderr)
    return failed


def _expanded(names: Sequence[str]) -> List[Path]:
    """Return the files named, patterns such as scan*.npy replaced by what they match, which the shell of Windows leaves to programs."""
    found = [sorted(glob.glob(name)) if glob.has_magic(name) and not Path(name).exists() else [name] for name in names]
    return [Path(match) for name, matches in zip(names, found) for match in matches or [name]]


def _places(paths: Sequence[Path], out: Optional[Path]) -> Dict[Path, Path]:
    """Return the folder of results of each frame: `out` of a single one, one by its stem in `out` of several; <stem>_stemzoo without.

    Raises: OutputError where two frames would share one.
    """
    places: Dict[Path, Path] = {}
    taken: Dict[Path, Path] = {}
    paths = list(dict.fromkeys(paths))
    for path in paths:
        place = Path(f"{path.stem}_stemzoo") if out is None else out if len(paths) == 1 else out / path.stem
        if place in taken:
            raise OutputError(f"{path}: its results would replace those of {taken[place]} in {place}; analyse the two one after the other")
        places[path], taken[place] = place, path
    return places


def _one(path: Path, place: Path, segmenter: Segmenter, encoder: Optional[Encoder], pixel_size: Optional[float]) -> None:
    """Analyse one frame or stack into a folder, and say what came of it."""
    began = time.perf_counter()
    frames = read_npy(path, pixel_size)
    analysis = locate(frames, segmenter) if encoder is None else analyze(frames, segmenter, encoder)
    if encoder is not None:
        analysis = with_strangeness(analysis, encoder, "pass --encoder none, or bring an encoder of this structure along")
    doubts = doubts_of(analysis)
    facts = {
        "input": str(path),
        "sha256": frames.sha256,
        "pixel_size": frames.pixel_size,
        "models": [_facts(model.bundle) for model in (segmenter, encoder) if model is not None],
        "notices": list(analysis.notices),
        "doubts": list(doubts),
        "seconds": {stage: round(value, 4) for stage, value in analysis.seconds.items()},
        "version": stemzoo.__version__,
    }
    _keep(place, analysis, json.dumps(facts, indent=1) + "\n")
    total, failed = (sum(int(n) for n in counts) for counts in zip(*((len(c), (~c.fit_ok).sum()) for c in analysis.columns)))
    parts = headline(total, median_error(analysis.columns), frames.pixel_size, failed, len(frames))
    print(f"{path}: {', '.join(parts)}, {time.perf_counter() - began:.1f} s\n  {place}", flush=True)
    for kind, said in (("warning", doubts), ("note", analysis.notices)):
        for notice in said:
            print(f"  {kind}: {notice}", file=sys.stderr, flush=True)


def _keep(place: Path, analysis: Analysis, run: str) -> None:
    """Write columns.csv and run.json so that the two belong together, or leave what was there. Raises: OutputError."""
    waiting = place / f".run.json.{os.getpid()}.part"
    try:
        place.mkdir(parents=True, exist_ok=True)
        waiting.write_text(run, encoding="utf-8")
        write_columns(place / "columns.csv", analysis)
        os.replace(str(waiting), str(place / "run.json"))
    except OSError as error:
        raise OutputError(f"{error.filename or place}: cannot be written ({error.strerror}); choose another --out") from None
    finally:
        if waiting.is_file():
            waiting.unlink()


def _facts(bundle: Bundle) -> Dict[str, Any]:
    return {"id": bundle.id.id, "sha256": bundle.sha256, "provider": bundle.session.provider}


def read_npy(path: Path, pixel_size: Optional[float]) -> Frames:
    """Return the frames in a NumPy file, mapped from disk. Raises: ReadError if it is none, or holds no image."""
    if not path.is_file():
        raise ReadError(f"{path}: no such file; wanted a .npy file with a frame (H, W) or a stack (T, H, W)")
    try:
        data = np.load(str(path), mmap_mode="r", allow_pickle=False)
        shape, kind = data.shape, data.dtype.kind
    except (ValueError, OSError, EOFError, AttributeError):
        raise ReadError(f"{path}: not a NumPy file, or cut short; save the frame with numpy.save") from None
    if len(shape) not in (2, 3) or kind not in "uif":
        raise ReadError(f"{path}: holds {data.dtype} of shape {shape}; wanted real numbers (H, W) or (T, H, W)")
    stack = data[np.newaxis] if len(shape) == 2 else data
    return Frames(stack, pixel_size, "unknown" if pixel_size is None else "user", str(path), sha256_of(path))


def _verify(models: Path, session: SessionOptions) -> int:
    found = find_models(models)
    if not found:
        raise ModelError(f"no model in {models}; the folder was not copied whole")
    failed = 0
    notices: List[str] = []
    try:
        print(f"{MANIFEST_FILE}: {check_manifest(models.parent)} files are as they were made")
    except StemzooError as error:
        print(f"{MANIFEST_FILE}: FAILED: {error}")
        failed += 1
    for name, folder in found.items():
        try:
            result = verify(Bundle.load(folder, session))
        except StemzooError as error:
            print(f"{name}: FAILED: {error}")
            failed += 1
            continue
        print(result.summary())
        notices += result.notices
        failed += not result.ok
    for notice in dict.fromkeys(notices):
        print(f"note: {notice}", file=sys.stderr)
    return int(failed > 0)
