"""A folder for the microscope: models, the instrument layer as one file, a page for the operator. Called by `stemzoo bundle`.

The zip application holds readable source (`types`, `errors`, `geometry`, `runtime`) and nothing else; it runs on any Python from 3.8 on
that has NumPy and onnxruntime. The folder appears whole or not at all.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import stemzoo
from stemzoo.errors import ModelError, OutputError
from stemzoo.zoo.card import CARD_FILE, Card, read_card
from stemzoo.zoo.catalog import resolve
from stemzoo.zoo.check import WEIGHTS_FILE, check_files, sha256_of
from stemzoo.zoo.wheels import Target, fetch
from stemzoo.zoo.whole import whole_folder

MANIFEST_FILE = "MANIFEST"
LAYER = ("__init__.py", "types", "errors.py", "geometry", "runtime")
MAIN = """import os
import sys

# Before NumPy is loaded: the linear algebra of refinement is small, and where other programs are busy, threads of BLAS wait for each other
# a hundred times longer than they work. The networks' threads are chosen by --threads.
for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from stemzoo.runtime.app import main

sys.exit(main())
"""

README = """stemzoo {version}, for the microscope
{line}

This folder finds atomic columns in ADF-STEM frames and says what the local symmetry around each of them is. It needs Python 3.8 or
newer with two packages, numpy and onnxruntime; nothing else has to be installed, and nothing is sent anywhere.
{wheels}
Once, after copying:

    python stemzoo.pyz verify

checks every file of this folder and replays stored examples through every model. The first line must say that the files are as they were
made, each further one that all elements agree, and which execution provider runs.

For each frame, saved with numpy.save as (H, W), or (T, H, W) for a stack:

    python stemzoo.pyz analyze frame.npy --pixel-size 0.12

Several frames may be named, or scan*.npy. --pixel-size is in Angstrom per pixel; without it the scale is found from the lattice, and
lengths in Angstrom stay empty. --cores 1 stays on one core of the PC (the second; they count from 0) and leaves the others to the
acquisition. `locate` in place of `analyze` leaves angles and latents out.

The results are in frame_stemzoo, or where --out says; those of an earlier run there are replaced. run.json says which models made them,
and columns.csv holds one line a column:

    frame, column            counted from 0
    y_px, x_px, y_A, x_A     position; y runs downwards, the centre of the first pixel is (0, 0)
    sigma_y_px, sigma_x_px   standard error of the position
    species, intensity       class of the model; intensity above the local background
    confidence               probability that a column is there
    fit_ok                   0 where the fit failed: the position is the network's, its error is wide
    angle_rad                by how much the pattern around the column is turned, counter-clockwise as displayed
    z1, z2, ...              latents of the pattern; empty, as the angle, where its window reaches over the edge

A line with `warning:` says what speaks against the result, and is kept in run.json among the doubts: look at the frame
before its numbers are used. Where an encoder does not know the structure, `--encoder none` leaves its angles and latents out. A line
with `note:` says what was decided.

Models here:

{models}
"""
WHEELS = """
Without network, in this folder, {choices}:

{commands}

On Windows, onnxruntime also needs Microsoft's Visual C++ runtime, which most PCs have.
"""


def make_folder(models: Sequence[str], out: str | Path, wheels: Sequence[str] = ()) -> list[Card]:
    """Write a folder with `models` and the instrument layer, and return the models' cards.

    Args:
        models: names, name@version or bundle folders; at least one for segmentation.
        out: must not exist yet, or be empty.
        wheels: platforms such as `windows-3.8`, for each of which NumPy and onnxruntime are fetched and put beside.
    Raises: ModelError for an unknown or damaged model, or none for segmentation; OutputError if `out` is taken or cannot be written, or if
        wheels cannot be fetched.
    """
    out = Path(out)
    targets = [Target.parse(text) for text in dict.fromkeys(wheels)]
    folders = [resolve(name) for name in models]
    cards = []
    for folder in folders:
        card, _ = read_card(folder)
        check_files(card, folder)
        cards.append(card)
    if not any(card.task == "segmentation" for card in cards):
        raise ModelError(f"{', '.join(models)}: none finds columns; add a segmenter (stemzoo zoo list --task segmentation)")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: already there; name an empty --out")
    with whole_folder(out) as work:
        write_application(work / "stemzoo.pyz")
        for folder, card in zip(folders, cards, strict=True):
            place = work / "models" / card.name / f"v{card.version}"
            place.mkdir(parents=True)
            for name in (CARD_FILE, *(file.name for file in card.files if file.name != WEIGHTS_FILE)):
                shutil.copyfile(folder / name, place / name)
        for target in targets:
            place = work / "wheels" / target.name
            place.mkdir(parents=True)
            fetch(target, place)
        listed = "\n".join(f"    {card.id:<24} {card.title}" for card in cards)
        title = f"stemzoo {stemzoo.__version__}, for the microscope"
        text = README.format(version=stemzoo.__version__, line="=" * len(title), models=listed, wheels=_about_wheels(targets))
        (work / "README.txt").write_bytes(text.replace("\n", "\r\n").encode())  # old Notepads know no other ends of lines
        _list_files(work)
    return cards


def _about_wheels(targets: Sequence[Target]) -> str:
    """Return how the operator installs from the wheels, or an empty text without any."""
    if not targets:
        return ""
    command = "    python -m pip install --no-index --no-deps --find-links wheels/{} numpy onnxruntime"
    choices = "run" if len(targets) == 1 else "run the line of this PC's system and Python"
    return WHEELS.format(choices=choices, commands="\n".join(command.format(target.name) for target in targets))


def _list_files(folder: Path) -> None:
    """Write the sha256 of every file below `folder`, which is finished with it, as `sha256sum -c` and runtime.manifest read them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / MANIFEST_FILE).write_bytes("".join(lines).encode())


def write_application(path: Path) -> None:
    """Write the instrument layer as a zip application; the same sources give the same bytes."""
    package = Path(stemzoo.__file__).parent
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, "__main__.py", MAIN)
        for entry in LAYER:
            source = package / entry
            for file in sorted(source.rglob("*.py")) if source.is_dir() else (source,):
                _put(archive, f"stemzoo/{file.relative_to(package).as_posix()}", file.read_text(encoding="utf-8"))


def _put(archive: zipfile.ZipFile, name: str, text: str) -> None:
    info = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, text)
