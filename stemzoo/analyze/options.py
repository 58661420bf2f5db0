"""What a user may choose of an analysis, and the two small languages in which she says it: `12Å` for a window, `a:b` for frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stemzoo.errors import FrameError, ModelError, PixelSizeError
from stemzoo.types import ORDERS, check_pixel_size

Progress = Callable[[str, int, int], None]
Task = Literal["locate", "analyze", "encode"]
AUTO, NONE = "auto", "none"
_ENDLESS = 1 << 62


@dataclass(frozen=True, slots=True)
class AnalyzeOptions:
    """What a user may choose.

    Args:
        model: name of the segmenter; None takes the zoo's default.
        encoder: name of the encoder; `auto` the zoo's that fits the file, if one does; `none` no angles and latents.
        fit_encoder: fit an encoder to this file's own sub-images instead; needs the extra `train`.
        latents: number of latents of a fitted encoder; seed: of its training.
        pixel_size: Å/px, overrides the file's.
        window: extent of the sub-images, `12Å` or `48px`; None takes the encoder's own, or for a fitted one 2.75 column spacings; `auto`
            tries several for a fitted encoder.
        frames: `a:b`, which frames of a stack; None takes all.
        threshold: lowest accepted probability; None takes the model's own.
        report: draw figures and report.html. force: replace a folder that holds other files.
        symmetry: order n that a fitted encoder takes every column for; None finds out the order of each kind of column.
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
    symmetry: int | None = None

    def __post_init__(self) -> None:
        check_pixel_size(self.pixel_size, "--pixel-size")
        if not 1 <= self.latents <= 16:
            raise ModelError(f"--latents is {self.latents}; wanted 1 to 16")
        if self.symmetry not in (None, *ORDERS):
            raise ModelError(f"--symmetry is {self.symmetry}; wanted {', '.join(map(str, ORDERS[:-1]))} or {ORDERS[-1]}")
        if self.fit_encoder and self.encoder != AUTO:
            other = "wants none" if self.encoder == NONE else "names a finished one"
            raise ModelError(f"--fit-encoder fits an encoder to this file, --encoder {self.encoder} {other}; pass one of the two")
        parse_window(self.window, 1.0)
        if self.window == AUTO and not self.fit_encoder:
            raise ModelError("--window auto chooses the window of an encoder that is fitted; pass --fit-encoder too, or a length")
        for name in () if self.fit_encoder else ("latents", "seed", "symmetry"):
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise ModelError(
                    f"--{name} {getattr(self, name)} is for an encoder that is fitted; pass --fit-encoder too, or leave it out"
                )
        parse_frames(self.frames, None)

    def as_text(self) -> dict[str, str]:
        """Return the options that differ from their defaults, for provenance."""
        defaults = AnalyzeOptions
        chosen = {name: getattr(self, name) for name in defaults.__dataclass_fields__}
        return {name: str(value) for name, value in chosen.items() if value != defaults.__dataclass_fields__[name].default}


def parse_window(text: str | None, pixel_size: float | None, option: str = "--window") -> float | None:
    """Return a window in pixels of the frame from `12Å`, `12A` or `48px`; None for None and for `auto`.

    `option` is what a refusal names.

    >>> parse_window("12Å", 0.2), parse_window("48 px", None)
    (60.0, 48.0)
    """
    if text is None or text == AUTO:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(px|Å|A|Angstrom|angstrom)\s*", text)
    if not found or float(found[1]) <= 0:
        more = " or auto" if option == "--window" else ""
        raise ModelError(f"{option} {text!r} has no length and unit; wanted for example {option} 12Å, {option} 48px{more}")
    if found[2] == "px":
        return float(found[1])
    if pixel_size is None:
        raise PixelSizeError(f"{option} {text!r} is in Å, but the pixel size is unknown; pass --pixel-size Å, or a window in px")
    return float(found[1]) / pixel_size


def parse_frames(text: str | None, total: int | None) -> tuple[int, int]:
    """Return (first, end) of `a:b`, counted from 0, end left out; either may be missing. Without `total` only the text itself is judged.

    >>> parse_frames("2:", 10), parse_frames(None, 3)
    ((2, 10), (0, 3))
    """
    most = _ENDLESS if total is None else total
    if text is None:
        return 0, most
    found = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text)
    first = int(found[1] or 0) if found else 0
    end = min(int(found[2] or most), most) if found else 0
    if first >= end:
        of = "" if total is None else f" of {total}"
        raise FrameError(f"--frames {text!r} chooses no frame{of}; wanted a:b with a < b, counted from 0 (e.g. --frames 0:10)")
    return first, end
