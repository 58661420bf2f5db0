"""Sub-images to angle and latents, and back to patterns. Owns batches, threads and what becomes of windows over the edge of a frame.

Called by runtime.pipeline, and by whoever encodes sub-images that are cut already.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Callable, ContextManager, Dict, List, Optional, Tuple

import numpy as np

from stemzoo.errors import ModelError, ShapeError
from stemzoo.geometry.angles import wrap
from stemzoo.geometry.parallel import spread
from stemzoo.geometry.subimages import Cutouts
from stemzoo.runtime.bundle import DECODER_FILE, Bundle
from stemzoo.runtime.cores import usable_cores
from stemzoo.runtime.session import CPU, Session, open_session
from stemzoo.runtime.structure import disc, explainable, explained
from stemzoo.types import Encoding, ModelId, SubImages

BATCH = 384  # sub-images at a time, or fewer: one or two batches a core for the columns of a frame of 512 × 512
MULTIPLE = 16  # sub-images: in whole multiples of a processor's vectors they come to the same bits however they are divided
_OUTPUTS = ("angle", "angle_sigma", "symmetry", "latents")


class Encoder:
    """An encoding bundle, ready to run.

    Raises: ModelError if the bundle is for another task or its graph lacks one of the agreed outputs.
    """

    def __init__(self, bundle: Bundle, batch: int = BATCH) -> None:
        bundle.require("encoding")
        missing = [name for name in _OUTPUTS if name not in bundle.session.outputs]
        if bundle.session.inputs != ("subimages",) or missing:
            found = f"{bundle.session.inputs} -> {bundle.session.outputs}"
            raise ModelError(f"{bundle.folder}: its graph is {found}; wanted subimages -> {', '.join(_OUTPUTS)}; export the model again")
        self.bundle = bundle
        self.spec = bundle.spec
        self.batch = batch
        self._alone: Optional[Session] = None

    @property
    def id(self) -> ModelId:
        """Name, version and hash of the model."""
        return self.bundle.id

    @property
    def decodes(self) -> bool:
        """Whether the bundle can draw the patterns of latents."""
        return (self.bundle.folder / DECODER_FILE).is_file()

    def encode(self, subimages: SubImages) -> Encoding:
        """Return one row per sub-image, in their order.

        A sub-image whose window reaches over the edge of the frame keeps its row, flagged `inside=False`, with angle and latents NaN
        and symmetry 1: half of what it shows is invented by reflection.

        Raises: ShapeError if the sub-images are not `spec.window_px` wide; ModelError if the network cannot run.
        """
        self._check(subimages.window_px)
        return self._encoded(subimages.frame, subimages.column, subimages.inside, partial(_taken, subimages.data))

    def encode_windows(self, windows: Cutouts, usable: np.ndarray) -> Encoding:
        """Return one row per column of a frame; those that are not `usable` (n,) bool get angle and latents NaN and symmetry 1.

        The same as `encode` of all sub-images, but each batch is cut by the thread that encodes it, just before.
        Raises: as `encode`.
        """
        self._check(windows.samples)
        n = len(windows)
        encoding = self._encoded(np.full(n, windows.frame, np.int64), np.arange(n), windows.inside & usable, windows.cut)
        return replace(encoding, inside=windows.inside)

    def _check(self, window_px: int) -> None:
        if window_px != self.spec.window_px:
            wanted = self.spec.window_px
            raise ShapeError(f"sub-images are {window_px} px wide; {self.spec.id} wants {wanted} px; cut them with size={wanted}")

    def _encoded(self, frame: np.ndarray, column: np.ndarray, inside: np.ndarray, images: Callable[[np.ndarray], np.ndarray]) -> Encoding:
        """Return the rows of an encoding; images: called with (m,) of them, returns those sub-images (m, S, S) float32."""
        n, rows = len(inside), np.flatnonzero(inside)
        values: Dict[str, np.ndarray] = {
            "angle": np.full(n, np.nan),
            "angle_sigma": np.full(n, np.nan),
            "symmetry": np.ones(n, dtype=np.int64),
            "latents": np.full((n, self.spec.latents), np.nan, dtype=np.float32),
        }
        threads = self.bundle.options.threads or usable_cores()
        on_cpu = self.bundle.session.provider == CPU
        session = self._single_threaded() if on_cpu and threads > 1 else self.bundle.session
        turn: ContextManager[object] = nullcontext() if on_cpu else Lock()  # elsewhere one at a time runs; the others cut meanwhile

        def encode(part: np.ndarray) -> None:
            batch = {"subimages": images(part)}
            with turn:
                output = session.run(batch)
            if output["latents"].shape != (len(part), self.spec.latents):
                shape = output["latents"].shape
                raise ModelError(
                    f"{self.spec.id}: its graph gives latents of shape {shape}, its card names {self.spec.latents}; export the model again"
                )
            for name in _OUTPUTS:
                values[name][part] = output[name]

        parts = _parts(rows, self.batch, threads)
        spread(encode, parts, min(threads, len(parts)))
        values["angle"] = wrap(values["angle"])
        return Encoding(frame=frame, column=column, inside=inside, **values)

    def _single_threaded(self) -> Session:
        """Return the network for several batches side by side: a core for each batch is faster than all cores for each layer."""
        if self._alone is None:
            self._alone = open_session(self.bundle.session.path, replace(self.bundle.options, threads=1))
        return self._alone

    def explained(self, subimages: SubImages, encoding: Encoding, most: int = 300) -> Optional[float]:
        """Return which share of their variance the decoder's patterns explain, noise and all, the median over up to `most` sub-images.

        None without a decoder or without a sub-image that has an angle. Raises: ModelError if the network cannot run.
        """
        held = self._held_against(subimages, encoding, most)
        return None if held is None else float(np.median(explained(*held)))

    def knows(self, subimages: SubImages, encoding: Encoding, most: int = 300) -> Optional[float]:
        """Return which share of the structure in sub-images the decoder's patterns explain: of their variance, what is not noise.

        Little means that the encoder was trained on other structures, or that there is none. None, and raises, as `explained`.
        """
        held = self._held_against(subimages, encoding, most)
        if held is None:
            return None
        share, ceiling = (float(np.median(shares)) for shares in (explained(*held), explainable(held[0])))
        return share / max(ceiling, share, 1e-9)

    def _held_against(self, subimages: SubImages, encoding: Encoding, most: int) -> Optional[Tuple[np.ndarray, np.ndarray]]:
        """Return pixels (M, P) of sub-images that have an angle, and of what is drawn of them."""
        rows = np.flatnonzero(np.isfinite(encoding.angle) & np.isfinite(encoding.latents).all(axis=1))
        if not len(rows) or not self.decodes:
            return None
        rows, seen = rows[:: max(len(rows) // most, 1)], disc(subimages.window_px)
        return subimages.data[rows][:, seen], self.decode(encoding.latents[rows], encoding.angle[rows])[:, seen]

    def decode(self, latents: np.ndarray, angle: np.ndarray) -> np.ndarray:
        """Return the patterns (M, S, S) float32 that belong to `latents` (M, Z) turned by `angle` (M,) [rad].

        Raises: ShapeError if the shapes disagree; ModelError if the bundle has no decoder.
        """
        latents, angle = np.asarray(latents, dtype=np.float32), np.asarray(angle, dtype=np.float32)
        if latents.ndim != 2 or latents.shape[1] != self.spec.latents or angle.shape != latents.shape[:1]:
            raise ShapeError(f"latents {latents.shape} and angle {angle.shape}; {self.spec.id} decodes (M, {self.spec.latents}) and (M,)")
        patterns: List[np.ndarray] = []
        for first in range(0, len(latents), self.batch):
            part = slice(first, first + self.batch)
            patterns.append(self.bundle.decoder.run({"latents": latents[part], "angle": angle[part]})["pattern"])
        return np.concatenate(patterns) if patterns else np.zeros((0, self.spec.window_px, self.spec.window_px), dtype=np.float32)


def _parts(rows: np.ndarray, batch: int, threads: int) -> List[np.ndarray]:
    """Return the rows (n,) in parts of about `batch` or fewer, as many and as large for each thread; whole MULTIPLEs but for the last."""
    rounds, units = -(-len(rows) // (threads * batch)), -(-len(rows) // MULTIPLE)
    ends = MULTIPLE * np.linspace(0, units, min(threads * rounds, units) + 1).round().astype(int)
    return np.split(rows, ends[1:-1]) if len(rows) else []


def _taken(data: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows (m,), ascending, of an array, float32; not a copy where they follow each other."""
    whole = rows[-1] - rows[0] + 1 == len(rows)
    return np.asarray(data[rows[0] : rows[-1] + 1] if whole else data[rows], dtype=np.float32)
