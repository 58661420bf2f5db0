"""Print what training on the universal mixture is worth on real frames, beside training on the three materials the project began with.

    python scripts/compare_training.py --work runs [--steps 1500] [--frames 300] [--model adf-unet@1 ...]

Two networks of adf-unet-nano's kind see as many frames and as many steps, the one of sr3fe2o7, srtio3 and mos2, the other of the mixture;
models of the zoo are set beside them. Each locates every frame of the folder that STEMZOO_REAL names. No truth is known for most, so that:

- found: share of the implied sites at which there is a column. A site is implied where columns found by any of the networks say so, at
  least three of its four neighbours at the frame's two lattice vectors. Left out for frames without a lattice.
- stray: share of a network's columns that fewer than two of those neighbours speak for.
- F1: against atoms labelled by hand, within 5 px, where there are labels.
- undecided: share of the network's maxima that are neither clearly columns nor clearly none; lower is surer.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from score_segmenter import LABEL_TOLERANCE_PX, LABELLED, ROOT, simulated
from segmenter_plans import FAST, WIDE

from stemzoo.export.bundle import write_bundle
from stemzoo.geometry.cleaning import clean
from stemzoo.geometry.lattice import Lattice, find_lattice
from stemzoo.geometry.matching import match
from stemzoo.io.read import read
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.pipeline import LocateOptions, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.training import SegmenterConfig, load_for_export, train_segmenter
from stemzoo.types import Analysis
from stemzoo.zoo import resolve

THREE = ("sr3fe2o7", "srtio3", "mos2")
PIXEL_SIZES = {"MoS2_stem_Exp-000-2.npy": 90 / 512}
NEAR = 0.2
"""Of the lattice's period: how near a column must lie to where a neighbour says one is."""


def trained(name: str, recipes: tuple[str, ...], work: Path, steps: int, n_frames: int) -> Path:
    """The bundle of one network, trained unless it is there."""
    folder = work / name
    if folder.exists():
        return folder
    parts = [simulated(work, f"{name}_{recipe}", recipe, n_frames // len(recipes), 11, WIDE) for recipe in recipes]
    config = SegmenterConfig(datasets=tuple(str(part) for part in parts), **FAST, steps=steps, steps_per_epoch=steps // 5, seed=11)
    run = train_segmenter(config, work / f"run-{name}", progress=False)
    assert run.best is not None
    _, modules, draft = load_for_export(run.best)
    draft |= {"name": name, "licence": "MIT", "citation": "none", "title": name, "summary": name, "limits": ["For comparison alone."]}
    write_bundle(folder, modules, draft)
    return folder


def supported(yx: np.ndarray, by: np.ndarray, lattice: Lattice) -> np.ndarray:
    """(n,) how many of the four neighbours of each `yx` (n, 2) px at the lattice's vectors are among `by` (m, 2) px."""
    tree, near = cKDTree(by), NEAR * lattice.period_px
    steps = np.concatenate([lattice.vectors_px, -lattice.vectors_px])
    return np.asarray(sum(np.isfinite(tree.query(yx + step, distance_upper_bound=near)[0]).astype(int) for step in steps))


def implied_sites(found: list[np.ndarray], lattice: Lattice, shape: tuple[int, int]) -> np.ndarray:
    """(n, 2) px, where three neighbours or more, found by any network, say that there is a column; one of each cluster."""
    near = NEAR * lattice.period_px
    pooled = apart(np.concatenate(found), near)
    steps = np.concatenate([np.zeros((1, 2)), lattice.vectors_px, -lattice.vectors_px])
    candidates = apart((pooled[:, None] + steps).reshape(-1, 2), near)
    inside = ((candidates > near) & (candidates < np.array(shape) - 1 - near)).all(axis=1)
    candidates = candidates[inside]
    return candidates[supported(candidates, pooled, lattice) >= 3]


def apart(yx: np.ndarray, near: float) -> np.ndarray:
    """The points without those that lie nearer than `near` to an earlier one."""
    keep = np.ones(len(yx), dtype=bool)
    for first, second in sorted(cKDTree(yx).query_pairs(near)):
        if keep[first]:
            keep[second] = False
    return yx[keep]


def labels_of(path: Path) -> np.ndarray | None:
    """(n, 2) yx px of atoms labelled by hand, or None."""
    for frames, tables in LABELLED.items():
        if path.match(frames):
            with next(path.parent.glob(tables)).open() as file:
                return np.array([[float(row["Y"]), float(row["X"])] for row in csv.DictReader(file)])
    return None


def row(path: Path, networks: dict[str, Segmenter]) -> str:
    """One line of the table."""
    frames = read(str(path), PIXEL_SIZES.get(path.name))
    analyses: dict[str, Analysis] = {name: locate(frames, net, LocateOptions(refine=False)) for name, net in networks.items()}
    found = {name: analysis.columns[0].yx for name, analysis in analyses.items()}
    image, _ = clean(frames.frame(0))
    lattice, labels = find_lattice(image), labels_of(path)
    cells = []
    sites = np.zeros((0, 2)) if lattice is None or labels is not None else implied_sites(list(found.values()), lattice, image.shape)
    for name, yx in found.items():
        facts = [f"{len(yx)}"]
        if labels is not None:
            facts.append(f"F1 {2 * len(match(yx, labels, LABEL_TOLERANCE_PX).found) / (len(yx) + len(labels)):.2f}")
        elif lattice is not None and len(sites) and len(yx):
            hits = cKDTree(yx).query(sites, distance_upper_bound=NEAR * lattice.period_px)[0]
            stray = (supported(yx, yx, lattice) < 2).mean()
            facts += [f"found {np.isfinite(hits).mean():.2f}", f"stray {stray:.2f}"]
        facts.append(f"undecided {analyses[name].quality[0].undecided:.2f}")
        cells.append(", ".join(facts))
    return f"| `{path.name}` | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--frames", type=int, default=300, help="frames that each of the two networks is trained on")
    parser.add_argument("--model", nargs="*", default=["adf-unet-nano@1", "adf-unet@1", "adf-unet@2"], help="set beside the two")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    bundles = {
        "three materials": trained("three", THREE, options.work, options.steps, options.frames),
        "universal": trained("universal", ("universal",), options.work, options.steps, options.frames),
        **{name: resolve(name) for name in options.model},
    }
    networks = {name: Segmenter(Bundle.load(folder)) for name, folder in bundles.items()}
    folder = Path(os.environ.get("STEMZOO_REAL", ROOT.parent / "shared" / "real"))
    print("| frame | " + " | ".join(networks) + " |\n" + "|---" * (len(networks) + 1) + "|")
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".tif", ".npy", ".dm3", ".dm4")):
        print(row(path, networks), flush=True)


if __name__ == "__main__":
    main()
