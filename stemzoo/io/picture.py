"""Pictures (png, jpg) to Raw. Called by io.read.

A picture carries no pixel size: its dpi is that of a page.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from stemzoo.errors import ReadError
from stemzoo.io.colour import grey
from stemzoo.io.raw import Raw


def read_picture(path: str, wanted: str | None) -> Raw:
    """Return a picture's grey values.

    Raises: ReadError if it is coloured: a colour map or a drawn scale bar are no intensities.
    """
    if wanted is not None:
        raise ReadError(f"{path}: a picture holds one image; leave out ::{wanted}")
    with Image.open(path) as picture:
        mode = picture.mode
        palette = mode in ("P", "PA")
        data = np.asarray(picture.convert("RGBA" if palette else "RGB") if palette or mode in ("CMYK", "YCbCr", "LAB", "HSV") else picture)
    notices: tuple[str, ...] = ()
    if data.ndim == 3:
        data, notices = grey(data, path)
    if path.lower().endswith((".jpg", ".jpeg", ".jfif")):
        notices += ("jpg compression changes intensities, so standard errors are too small; prefer the microscope's own file",)
    return Raw(data, None, {"mode": mode}, notices)
