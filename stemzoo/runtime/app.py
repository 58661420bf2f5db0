"""The instrument layer's own command line, the `__main__` of `stemzoo.pyz`: analyze, locate, verify. NumPy and onnxruntime only.

    python stemzoo.pyz analyze FRAME.npy --model NAME@1 --encoder NAME@1 --pixel-size 0.12 --out DIR
    python stemzoo.pyz verify

Models lie in `models/<name>/v<N>` beside the file. Writes the `columns.csv` that `stemzoo analyze` writes; returns 0, 1 for a refusal,
2 for usage. Called by nothing else in the package.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

import stemzoo
from stemzoo.errors import ModelError, OutputError, ReadError, StemzooError
from stemzoo.runtime.bundle import MODEL_FILE, Bundle, verify
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.pipeline import analyze, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions
from stemzoo.runtime.tables import write_columns
from stemzoo.types import Frames


def main(argv: Optional[List[str]] = None, home: Optional[Path] = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after `stemzoo.pyz`; those of the process if None.
        home: the folder that holds `models/`; where the running file lies if None.
    """
    options = _parser().parse_args(argv)
    models = (home or Path(sys.argv[0]).resolve().parent) / "models"
    try:
        if options.command == "verify":
            return _verify(models, options)
        _run(models, options)
    except StemzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stemzoo.pyz", description=f"stemzoo {stemzoo.__version__}: columns, angles and latents of a frame."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, said in (("analyze", "columns with errors, angles and latents"), ("locate", "columns with errors only")):
        command = commands.add_parser(name, help=said)
        command.add_argument("frame", metavar="FRAME.npy", type=Path, help="one frame (H, W) or a stack (T, H, W)")
        command.add_argument("--model", metavar="ID", help="segmenter: name, name@version or a folder; default: the only one here")
        if name == "analyze":
            command.add_argument("--encoder", metavar="ID", help="encoder, or none; default: the only one here")
        command.add_argument("--pixel-size", metavar="Å", type=float, help="Å per pixel")
        command.add_argument("--out", metavar="DIR", type=Path, required=True, help="columns.csv and run.json go there")
        command.add_argument("--threads", metavar="N", type=int, default=0, help="threads of the networks; 0: as many as there are cores")
    check = commands.add_parser("verify", help="replay the golden tensors of every model here")
    check.add_argument("--threads", metavar="N", type=int, default=0)
    return parser


def find_models(models: Path) -> Dict[str, Path]:
    """Return the folder of each model under `models`, by `name@version`, newest version last."""
    found = {}
    for path in sorted(models.glob("*/v*/" + MODEL_FILE), key=lambda path: (path.parent.parent.name, _version(path.parent))):
        found[f"{path.parent.parent.name}@{_version(path.parent)}"] = path.parent
    return found


def _version(folder: Path) -> int:
    return int(folder.name[1:]) if folder.name[1:].isdigit() else 0


def _load(models: Path, name: Optional[str], task: str, threads: int) -> Bundle:
    """Return the model called `name`, or the only one here for `task`. Raises: ModelError that lists what there is."""
    session = SessionOptions(threads=threads)
    if name is not None and (Path(name) / MODEL_FILE).is_file():
        return Bundle.load(name, session)
    found = find_models(models)
    if name is not None:
        matching = [folder for key, folder in found.items() if key == name or key.split("@")[0] == name]
        if not matching:
            raise ModelError(f"unknown model {name!r}; here are {', '.join(found) or 'none'} in {models}")
        return Bundle.load(matching[-1], session)
    fitting = [bundle for bundle in (Bundle.load(folder, session) for folder in found.values()) if bundle.spec.task == task]
    if len({bundle.spec.id.split("@")[0] for bundle in fitting}) != 1:
        option = "--model" if task == "segmentation" else "--encoder"
        raise ModelError(
            f"{len(fitting)} models for {task} in {models}; name one with {option}: {', '.join(b.spec.id for b in fitting) or 'none'}"
        )
    return fitting[-1]


def _run(models: Path, options: argparse.Namespace) -> None:
    began = time.perf_counter()
    frames = read_npy(options.frame, options.pixel_size)
    segmenter = Segmenter(_load(models, options.model, "segmentation", options.threads))
    encoder = None
    if options.command == "analyze" and options.encoder != "none":
        encoder = Encoder(_load(models, options.encoder, "encoding", options.threads))
    analysis = locate(frames, segmenter) if options.command == "locate" else analyze(frames, segmenter, encoder)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{options.out}: cannot be made ({error.strerror}); choose another --out") from None
    write_columns(options.out / "columns.csv", analysis)
    facts = {
        "input": str(options.frame),
        "sha256": frames.sha256,
        "pixel_size": frames.pixel_size,
        "models": [{"id": model.id, "sha256": model.sha256} for model in (analysis.segmenter, analysis.encoder) if model is not None],
        "notices": list(analysis.notices),
        "seconds": {stage: round(value, 4) for stage, value in analysis.seconds.items()},
        "version": stemzoo.__version__,
    }
    (options.out / "run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for notice in analysis.notices:
        print(f"note: {notice}", file=sys.stderr)
    print(f"{options.frame}: {sum(len(columns) for columns in analysis.columns)} columns, {time.perf_counter() - began:.1f} s")


def read_npy(path: Path, pixel_size: Optional[float]) -> Frames:
    """Return the frames in a NumPy file, mapped from disk. Raises: ReadError if it is none, or holds no image."""
    if not path.is_file():
        raise ReadError(f"{path}: no such file; wanted a .npy file with a frame (H, W) or a stack (T, H, W)")
    try:
        data = np.load(str(path), mmap_mode="r", allow_pickle=False)
        shape, kind = data.shape, data.dtype.kind
    except (ValueError, OSError, EOFError, AttributeError):
        raise ReadError(f"{path}: not a NumPy file; save the frame with numpy.save") from None
    if len(shape) not in (2, 3) or kind not in "uif":
        raise ReadError(f"{path}: holds {data.dtype} of shape {shape}; wanted real numbers (H, W) or (T, H, W)")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    stack = data[np.newaxis] if len(shape) == 2 else data
    return Frames(stack, pixel_size, "unknown" if pixel_size is None else "user", str(path), digest.hexdigest())


def _verify(models: Path, options: argparse.Namespace) -> int:
    found = find_models(models)
    if not found:
        raise ModelError(f"no model in {models}; the folder was not copied whole")
    failed = 0
    for name, folder in found.items():
        try:
            result = verify(Bundle.load(folder, SessionOptions(threads=options.threads)))
        except StemzooError as error:
            print(f"{name}: FAILED: {error}")
            failed += 1
            continue
        print(result.summary())
        failed += not result.ok
    return int(failed > 0)
