"""A frame at the network's sampling to the probability that a column is there. Owns nothing but the call: tiling and session do the work.

Called by runtime.pipeline, `stemzoo evaluate` and scripts.
"""

from __future__ import annotations

from functools import partial
from typing import Tuple

import numpy as np

from stemzoo.errors import ModelError, ShapeError
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.tiling import MAX_TILE_PX, evaluate
from stemzoo.types import ModelId


class Segmenter:
    """A segmentation bundle, ready to run on frames of any size.

    Args:
        bundle: an opened bundle for segmentation.
        max_tile_px: longest side given to the network at once; bounds memory.

    Raises: ModelError if the bundle is for another task or its graph lacks `image` or `probability`.
    """

    def __init__(self, bundle: Bundle, max_tile_px: int = MAX_TILE_PX) -> None:
        bundle.require("segmentation")
        if bundle.session.inputs != ("image",) or "probability" not in bundle.session.outputs:
            found = f"{bundle.session.inputs} -> {bundle.session.outputs}"
            raise ModelError(f"{bundle.folder}: its graph is {found}; wanted image -> probability; export the model again")
        self.bundle = bundle
        self.spec = bundle.spec
        self.max_tile_px = max_tile_px

    @property
    def ensemble(self) -> bool:
        """Whether the model is several networks, which say how far they agree."""
        return "members" in self.bundle.session.outputs

    @property
    def id(self) -> ModelId:
        """Name, version and hash of the model."""
        return self.bundle.id

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Return (C, H, W) float32 in [0, 1], the background left out. Arguments and errors as in `maps`."""
        return self.maps(image)[0]

    def maps(self, image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return the probabilities (C, H, W), float32 in [0, 1], the background left out, and what each network of an ensemble gives for a
        column of any class (N, H, W); N is 0 for a single network.

        Args:
            image: (H, W) finite raw intensities, at a sampling inside `spec.sampling`; any size.
        Raises: ShapeError if the image is not 2-D or holds NaN or infinity; ModelError if the network cannot run or has another number of
            classes.
        """
        if image.ndim != 2:
            raise ShapeError(f"image has shape {image.shape}; wanted (H, W)")
        if not np.isfinite(image).all():
            raise ShapeError(
                f"image has {int((~np.isfinite(image)).sum())} pixels that are not finite; clean it first (geometry.cleaning.clean)"
            )
        result = evaluate(
            image,
            self._run,
            overlap_px=self.spec.receptive_px,
            stride_px=self.spec.stride_px,
            max_tile_px=self.max_tile_px,
            last=partial(self._run, give_back=True),
        )
        classes = len(self.spec.classes)
        if len(result) != classes and not (self.ensemble and len(result) > classes + 1):
            raise ModelError(
                f"{self.spec.id}: its graph gives {len(result)} classes, its card names {len(self.spec.classes)}; export the model again"
            )
        return result[:classes], result[classes:]

    def _run(self, batch: np.ndarray, give_back: bool = False) -> np.ndarray:
        found = self.bundle.session.run({"image": batch}, give_back)
        return np.concatenate([found["probability"], found["members"]], axis=1) if self.ensemble else found["probability"]
