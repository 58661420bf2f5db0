"""Print what a segmenter in eight bits saves and costs: time of the network, F1 and RMSE of its maxima, size of the file.

    python scripts/bench_int8.py HELD.h5 [--model adf-unet] [--threads 1] [--calibration 8] [--beside PYTHON]

HELD.h5 is a dataset with exact columns that the model has not seen (`stemzoo data simulate`). Some of its frames set the ranges of the
activations and are not scored. Weights have 8 bits, or 7, which cannot overflow where a processor adds products of bytes in 16 bits.
Time is that of the processor for a frame of 1024² as the network sees it, the best of several. Needs onnx. PYTHON is the
interpreter of an environment with another onnxruntime: printed is by how much its maps differ.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from stemzoo.evaluate.run import frame_of, judge  # noqa: E402
from stemzoo.export.eightbits import quantise_graph  # noqa: E402
from stemzoo.geometry.peaks import find_peaks  # noqa: E402
from stemzoo.geometry.resample import to_rescaled  # noqa: E402
from stemzoo.io.datasets import Dataset  # noqa: E402
from stemzoo.quantise import as_the_network_sees  # noqa: E402
from stemzoo.runtime.bundle import MODEL_FILE, Bundle  # noqa: E402
from stemzoo.runtime.scale import Scale  # noqa: E402
from stemzoo.runtime.segmenter import Segmenter  # noqa: E402
from stemzoo.zoo import resolve  # noqa: E402

TIMED_PX, TIMED_SAMPLING, REPEATS = 1024, 0.15, 12
ELSEWHERE = """
import sys, numpy, onnxruntime
graph, frames, out = sys.argv[1:]
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
with numpy.load(frames) as images:
    maps = {name: session.run(["probability"], {"image": images[name]})[0] for name in images.files}
numpy.savez(out, **maps)
print(onnxruntime.__version__)
"""


def frames_of(path: Path, segmenter: Segmenter) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return each frame as the network sees it (H, W), its columns (n, 2) px there and its Å/px."""
    data, frames = Dataset(path), []
    for index in range(len(data)):
        frame = frame_of(data, index)
        assert frame.pixel_size is not None, f"{path}: frame {index} has no pixel size"
        factor = Scale(frame.pixel_size, "file").factor(segmenter.spec)
        height, width = (round(length * factor) / length for length in frame.shape)
        placed = to_rescaled(data.positions(index), (height, width))
        frames.append((as_the_network_sees(frame, segmenter), placed, frame.pixel_size / factor))
    return frames


def scored(session: Any, frames: list[tuple[np.ndarray, np.ndarray, float]], threshold: float, separation: float) -> tuple[float, float]:
    """Return F1 as `stemzoo evaluate` counts, and the RMSE of the maxima [px of the network]."""
    hits = found = there = 0
    squares = 0.0
    for image, yx, sampling in frames:
        peaks = find_peaks(session.run(["probability"], {"image": image[None, None]})[0][0], threshold, separation / sampling)
        judged = judge(peaks.yx, yx, (image.shape[0], image.shape[1]), sampling)
        hits += len(judged.found)
        found += len(judged.found) + len(judged.false)
        there += len(judged.placed) + len(judged.missed)
        squares += float(((peaks.yx[judged.found] - yx[judged.placed]) ** 2).sum())
    return 2 * hits / max(found + there, 1), (squares / max(hits, 1)) ** 0.5


def timed(session: Any, frame: np.ndarray) -> float:
    """Return processor seconds for one frame, the best of REPEATS."""
    best = np.inf
    for _ in range(REPEATS):
        began = time.process_time()
        session.run(["probability"], {"image": frame})
        best = min(best, time.process_time() - began)
    return best


def compared(session: Any, graph: Path, frames: list[tuple[np.ndarray, np.ndarray, float]], python: str, work: Path) -> str:
    """Return by how much the maps of `graph` under another interpreter's onnxruntime differ from the session's."""
    images = {str(number): image[None, None] for number, (image, _, _) in enumerate(frames)}
    np.savez(work / "images.npz", **images)  # type: ignore[arg-type]
    words = [python, "-c", ELSEWHERE, str(graph), str(work / "images.npz"), str(work / "maps.npz")]
    version = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with np.load(work / "maps.npz") as maps:
        apart = [float(np.abs(maps[name] - session.run(["probability"], {"image": image})[0]).max()) for name, image in images.items()]
    return f"onnxruntime {version}: {np.count_nonzero(apart)} of {len(apart)} maps differ, by {max(apart):.2g} at most"


def main() -> None:
    """Read the options, measure each variant, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("held", type=Path, metavar="HELD.h5")
    parser.add_argument("--model", default="adf-unet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calibration", type=int, default=8, metavar="N", help="frames that set the ranges")
    parser.add_argument("--beside", metavar="PYTHON")
    options = parser.parse_args()
    import onnxruntime

    folder = Path(resolve(options.model))
    segmenter = Segmenter(Bundle.load(folder))
    spec = segmenter.spec
    frames = frames_of(options.held, segmenter)
    every = max(1, len(frames) // options.calibration)
    calibration, held = [image for image, _, _ in frames[::every]], [frame for k, frame in enumerate(frames) if k % every]
    side = round(TIMED_PX * Scale(TIMED_SAMPLING, "file").factor(spec)) // spec.stride_px * spec.stride_px
    timed_frame = np.resize(held[0][0], (1, 1, side, side)).astype(np.float32)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    with tempfile.TemporaryDirectory() as work:
        graphs = {"single precision": folder / MODEL_FILE}
        for bits in (8, 7):
            graphs[f"eight bits, weights in {bits}"] = Path(work) / f"{bits}.onnx"
            quantise_graph(folder / MODEL_FILE, Path(work) / f"{bits}.onnx", calibration, bits)
        print(f"{spec.id}: {side}² px, {options.threads} threads; {len(held)} frames, {sum(len(yx) for _, yx, _ in held)} columns")
        for title, graph in graphs.items():
            session = onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
            score, rmse = scored(session, held, spec.threshold, spec.min_separation)
            took, size = timed(session, timed_frame), graph.stat().st_size / 1e6
            print(f"{title}: {1e3 * took:.0f} ms, F1 {score:.4f}, RMSE {rmse:.3f} px, {size:.2f} MB")
            if options.beside:
                print(f"    {compared(session, graph, held, options.beside, Path(work))}")


if __name__ == "__main__":
    main()
