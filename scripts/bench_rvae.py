"""Measure encoders on sub-images with known angle: angles, their stated errors, latents, time.

    python scripts/bench_rvae.py                           # the polar form, three seeds
    python scripts/bench_rvae.py --forms polar published   # beside the published form
    python scripts/bench_rvae.py --forms polar published --motifs 1 --turn 30 --offset 0 --n 600 --window 16 --epochs 60
                                                           # where the published form works: one asymmetric motif, narrow rotations, centred
    python scripts/bench_rvae.py --save data.npz           # the same sub-images for a peer, in its own environment …
    python scripts/peers/rvae_atomai.py data.npz peer.npz        # … such as AtomAI
    python scripts/bench_rvae.py --external peer.npz       # … and its answers: arrays `angle` (N,) and `latents` (N, Z) of the test images

A peer's answers are scored with the options that its sub-images were saved with.

The bound is the Cramér–Rao bound of `simulation.motifs.angle_bound`; with the default disorder of 0.05 Å it comes from the columns' places
far more than from counts. ARI and probe need scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.simulation.motifs import MOTIFS, Motif, Recorded, Recording, angle_bound, record
from stemzoo.types import SubImages

TRAIN_SEED, TEST_SEED = 1000, 2000
GROSS = np.radians(10)  # an error beyond this is a wrong mode, not a wide one


def main() -> None:
    """Run what the command line asks for."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--forms", nargs="+", default=["polar"], choices=["polar", "published"])
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--n", type=int, default=4000, help="sub-images to train on, and to test on")
    ask.add_argument("--epochs", type=int, help="default: the configuration's")
    ask.add_argument("--window", type=int, default=32, help="side of the sub-images [px]; the field of view stays 6.4 Å")
    ask.add_argument(
        "--motifs",
        type=int,
        nargs="+",
        default=list(range(len(MOTIFS))),
        help="numbers of the motifs: " + ", ".join(m.name for m in MOTIFS),
    )
    ask.add_argument("--turn", type=float, default=180.0, help="largest rotation to either side [degrees]")
    ask.add_argument("--offset", type=float, default=1.0, help="largest offset per axis [px]")
    ask.add_argument("--disorder", type=float, default=0.05, help="rms displacement of columns per axis [Å]")
    ask.add_argument("--dose", type=float, default=200.0, help="counts in a column's peak")
    ask.add_argument("--rotation-sigma", type=float, default=0.3, help="published form: prior of the angle [rad]")
    ask.add_argument("--rate", type=float, help="learning rate; default: the configuration's")
    ask.add_argument("--threads", type=int, default=2)
    ask.add_argument("--save", type=Path, help="write the sub-images and leave")
    ask.add_argument("--external", type=Path, help="score a peer's answers instead of training")
    ask.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = ask.parse_args()
    how = Recording(
        window_px=options.window, pixel_size=6.4 / options.window, dose=options.dose, disorder=options.disorder, offset_px=options.offset,
        turn=np.radians(options.turn),
    )  # fmt: skip
    motifs = tuple(MOTIFS[number] for number in options.motifs)
    bounds = [angle_bound(motif, how) for motif in motifs]
    if options.save:
        train, test = record(options.n, TRAIN_SEED, how, motifs), record(options.n, TEST_SEED, how, motifs)
        np.savez(options.save, train=train.images, test=test.images, angle=test.angle, kind=test.kind)
        return
    if options.external:
        found = np.load(options.external)
        test = record(options.n, TEST_SEED, how, motifs)
        show([score("external", found["angle"], None, None, found["latents"], test, motifs, bounds)], options.json)
        return
    rows = []
    for form in options.forms:
        for seed in range(options.seeds):
            rows.append(run(form, seed, how, motifs, bounds, options))
            if not options.json:
                show(rows[-1:], False)
    if options.json:
        show(rows, True)
    elif len(rows) > 1:
        summarise(rows)


def run(
    form: str, seed: int, how: Recording, motifs: tuple[Motif, ...], bounds: list[float], options: argparse.Namespace
) -> dict[str, object]:
    """Train one encoder and return its scores."""
    import torch

    from stemzoo.nets.graphs import EncoderGraph
    from stemzoo.training.encoding import epochs_for
    from stemzoo.training.encoding_config import EncoderConfig
    from stemzoo.training.fitting import fit_encoder
    from stemzoo.training.subimages import SubImageData

    torch.set_num_threads(options.threads)
    train, test = record(options.n, TRAIN_SEED + seed, how, motifs), record(options.n, TEST_SEED + seed, how, motifs)
    n = len(train.images)
    subimages = SubImages(train.images, np.zeros(n, int), np.arange(n), np.ones(n, bool), how.pixel_size)
    given = {"epochs": options.epochs, "min_steps": 1} if options.epochs else {}
    given |= {"learning_rate": options.rate} if options.rate else {}
    config = EncoderConfig(form=form, seed=seed, rotation_sigma=options.rotation_sigma, **given)
    epochs = epochs_for(config, SubImageData.from_subimages(subimages, config.model_copy(update={"validation_fraction": 0.0})))
    wall, cpu = time.perf_counter(), time.process_time()
    task = fit_encoder(subimages, config)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    graph = EncoderGraph(task.net)
    with torch.no_grad():
        parts = [graph(part) for part in torch.from_numpy(test.images).split(500)]  # type: ignore[no-untyped-call]
    answers = [np.column_stack([array.numpy().reshape(len(part[0]), -1) for array in part]) for part in parts]
    angle, sigma, symmetry, latents = np.split(np.concatenate(answers).astype(float), [1, 2, 3], axis=1)
    row = score(form, angle[:, 0], sigma[:, 0], symmetry[:, 0], latents, test, motifs, bounds)
    row |= {"seed": seed, "epochs": epochs, "fit_s": wall, "fit_cpu_s": cpu, "epoch_s": wall / epochs, "epoch_cpu_s": cpu / epochs}
    row |= {
        "encode_per_s": encode_rate(task, test.images, options.threads),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return row


def score(
    name: str,
    angle: np.ndarray,
    sigma: np.ndarray | None,
    symmetry: np.ndarray | None,
    latents: np.ndarray,
    test: Recorded,
    motifs: tuple[Motif, ...],
    bounds: list[float],
) -> dict[str, object]:
    """Return the angle's error by motif, beside its bound and its stated sigma, and how well latents tell motifs apart."""
    entries = []
    for kind, motif in enumerate(motifs):
        mine = test.kind == kind
        turn = np.exp(1j * motif.fold * (angle - test.angle)[mine])
        error = np.angle(turn / turn.mean()) / motif.fold
        fine = np.abs(error) < GROSS
        entry = {
            "motif": motif.name, "fold": motif.fold, "median_deg": np.degrees(np.median(np.abs(error))),
            "p90_deg": np.degrees(np.quantile(np.abs(error), 0.9)), "wrong_mode": float((~fine).mean()),
            "rmse_over_bound": float(np.sqrt((error[fine] ** 2).mean()) / bounds[kind]) if fine.any() else np.nan,
            "bound_deg": np.degrees(bounds[kind]),
        }  # fmt: skip
        if sigma is not None and symmetry is not None:
            standardised = error[fine] / sigma[mine][fine]
            entry |= {"z_spread": float(standardised.std()), "symmetry_right": float((symmetry[mine] == motif.fold).mean())}
        entries.append(entry)
    folds = np.array([motif.fold for motif in motifs])[test.kind]
    leak = orientation_in(latents, test.kind, folds * test.angle)
    return {"name": name, "motifs": entries, **leak, **(separation(latents, test.kind) if len(motifs) > 1 else {})}


def orientation_in(latents: np.ndarray, kind: np.ndarray, phase: np.ndarray, shuffles: int = 200) -> dict[str, float]:
    """Return what the latents say of the angle within a motif: mutual information [bits], its mean by chance, and the share of `shuffles`
    of the angles that say as much or more.

    Counted in 16 cells of the latents (quarters along two principal axes) and 12 of the phase, n times the angle [rad].
    """
    rng = np.random.default_rng(0)
    cell = np.zeros(len(kind), int)
    for k in np.unique(kind):
        mine = np.flatnonzero(kind == k)
        centred = latents[mine] - latents[mine].mean(0)
        axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
        ranks = (centred @ axes.T).argsort(0).argsort(0) * 4 // len(mine)
        cell[mine] = 16 * k + ranks @ 4 ** np.arange(ranks.shape[1])
    sector = (phase % (2 * np.pi) / (2 * np.pi) * 12).astype(int) % 12

    def bits(sectors: np.ndarray) -> float:
        counts = np.bincount(12 * cell + sectors, minlength=12 * (cell.max() + 1)).reshape(-1, 12) / len(cell)
        total = 0.0
        for k in np.unique(kind):
            part = counts[16 * k : 16 * (k + 1)]
            expected = part.sum(1, keepdims=True) * part.sum(0) / part.sum()
            total += float((part[part > 0] * np.log2(part[part > 0] / expected[part > 0])).sum())
        return total

    found, chance = bits(sector), []
    for _ in range(shuffles):
        shuffled = sector.copy()
        for k in np.unique(kind):
            shuffled[kind == k] = rng.permutation(sector[kind == k])
        chance.append(bits(shuffled))
    share = (1 + sum(value >= found for value in chance)) / (1 + shuffles)
    return {"angle_bits": found, "angle_bits_by_chance": float(np.mean(chance)), "angle_p": share}


def separation(latents: np.ndarray, kind: np.ndarray) -> dict[str, float]:
    """Return the adjusted Rand index of a Gaussian mixture and the accuracy of a linear probe; empty without scikit-learn."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import adjusted_rand_score
        from sklearn.mixture import GaussianMixture
    except ImportError:
        return {}
    z = (latents - latents.mean(0)) / (latents.std(0) + 1e-9)
    half = len(z) // 2
    clusters = GaussianMixture(len(np.unique(kind)), n_init=5, random_state=0).fit_predict(z)
    probe = LogisticRegression(max_iter=500).fit(z[:half], kind[:half])
    return {"gmm_ari": float(adjusted_rand_score(kind, clusters)), "linear_probe": float(probe.score(z[half:], kind[half:]))}


def encode_rate(task: Any, images: np.ndarray, threads: int) -> float:
    """Return sub-images a second through the runtime's encoder, from its bundle, in a process that never trained, as encoders run."""
    from stemzoo.export.bundle import write_bundle
    from stemzoo.training.encoding import task_parts

    modules, draft = task_parts(task)
    named = {"name": "bench", "version": 1, "materials": ["motifs"], "licence": "unstated", "citation": "scripts/bench_rvae.py"}
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "bundle", modules, {**named, **draft}, cases=getattr(modules["model"], "cases", None))
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            return fresh.apply(time_encoding, (Path(folder) / "bundle", images, threads))


def time_encoding(bundle: Path, images: np.ndarray, threads: int) -> float:
    """Return sub-images (N, S, S) a second that come out with angle, error, symmetry and latents; best of eight."""
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.encoder import Encoder
    from stemzoo.runtime.session import SessionOptions

    n = len(images)
    subimages = SubImages(images, np.zeros(n, int), np.arange(n), np.ones(n, bool))
    encoder = Encoder(Bundle.load(bundle, SessionOptions(threads=threads)))
    best = np.inf
    for _ in range(8):
        began = time.perf_counter()
        encoder.encode(subimages)
        best = min(best, time.perf_counter() - began)
    return n / best


def show(rows: list[dict], as_json: bool) -> None:
    """Print the rows."""
    if as_json:
        print(json.dumps(rows, indent=1, default=float))
        return
    keys = (
        "seed",
        "gmm_ari",
        "linear_probe",
        "angle_bits",
        "angle_bits_by_chance",
        "angle_p",
        "epochs",
        "fit_s",
        "fit_cpu_s",
        "epoch_s",
        "epoch_cpu_s",
        "encode_per_s",
        "rss_mb",
    )
    for row in rows:
        print(f"\n{row['name']}: " + ", ".join(f"{key} {row[key]:.4g}" for key in keys if key in row))
        print(f"  {'motif':28s} fold  median°    p90°  bound°  rmse/bound  wrong mode  z spread  n right")
        for m in row["motifs"]:
            angle = f"{m['median_deg']:8.3f} {m['p90_deg']:7.2f} {m['bound_deg']:7.3f} {m['rmse_over_bound']:11.2f} {m['wrong_mode']:11.4f}"
            tail = f"{m['z_spread']:9.2f} {m['symmetry_right']:8.3f}" if "z_spread" in m else ""
            print(f"  {m['motif']:28s} {m['fold']:4d} {angle} {tail}", flush=True)


def summarise(rows: list[dict]) -> None:
    """Print the spread over seeds."""
    for name in dict.fromkeys(row["name"] for row in rows):
        worst = [max(m["median_deg"] for m in row["motifs"]) for row in rows if row["name"] == name]
        print(f"\n{name}: worst motif's median error {np.median(worst):.3f}° (over seeds {min(worst):.3f}–{max(worst):.3f}°)")


if __name__ == "__main__":
    main()
