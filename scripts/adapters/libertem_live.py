"""A LiberTEM UDF that forms an annular dark-field image from a 4D-STEM scan, live or from a file, and has `stemzoo serve` find its columns.

    with LiveContext() as context:            # libertem_live.api; libertem.api.Context for a file
        ...                                   # connect to the detector and prepare an acquisition, as LiberTEM-live describes
        for part in columns_of_scan(context, acquisition, inner_px=20, outer_px=60, pixel_size=0.12):
            print(part["n_columns"], *part["doubts"])  # the live page of `stemzoo serve` shows the same, as the scan fills

The UDF itself runs on any LiberTEM context and data set; the image goes out whenever at least EVERY of the scan has been added.
"""

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
from libertem.udf import UDF

SERVER = "http://127.0.0.1:8765"
EVERY = 0.25  # of the scan, between two images that are sent
LEAST_ROWS = 64  # of a scan that is not whole: fewer hold too few columns to find the scale by
PATIENCE_S = 60  # that the whole scan waits for a busy server


class Refused(RuntimeError):
    """The server has nothing to say of an image, and why."""


class AnnularDarkField(UDF):
    """Sum of each diffraction pattern between two radii. Parameters: inner_px, outer_px [detector px], centre (y, x), None: the middle."""

    def __init__(self, inner_px, outer_px, centre=None):
        super().__init__(inner_px=inner_px, outer_px=outer_px, centre=centre)

    def get_result_buffers(self):
        """One number a scan position."""
        return {"intensity": self.buffer(kind="nav", dtype="float32")}

    def get_task_data(self):
        """The ring, made once a worker."""
        height, width = tuple(self.meta.dataset_shape.sig)
        y, x = self.params.centre or ((height - 1) / 2, (width - 1) / 2)
        radius = np.hypot(np.arange(height)[:, None] - y, np.arange(width)[None, :] - x)
        return {"ring": ((radius >= self.params.inner_px) & (radius < self.params.outer_px)).astype(np.float32)}

    def process_frame(self, frame):
        """Add one diffraction pattern."""
        self.results.intensity[:] = np.sum(frame * self.task_data.ring)


def ask(image, pixel_size, name):
    """Return the columns that the server finds in an image (H, W) and its doubts, or None where it is busy. Raises: Refused."""
    query = {"name": name, **({"pixel_size": pixel_size} if pixel_size else {})}
    body = io.BytesIO()
    np.save(body, np.ascontiguousarray(image))
    request = urllib.request.Request(
        f"{SERVER}/analyze?{urllib.parse.urlencode(query)}", body.getvalue(), {"Content-Type": "application/x-npy"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
            return {**said["frames"][0], "doubts": said["doubts"]}
    except urllib.error.HTTPError as error:
        if error.code == 429:
            return None
        raise Refused(json.load(error)["error"]) from None


def ask_patiently(image, pixel_size, name):
    """Return what `ask` does, once the server has a place: no other image comes. Raises: Refused, also where it stays busy."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        answer = ask(image, pixel_size, name)
        if answer is not None:
            return answer
        time.sleep(0.5)
    raise Refused(f"the server was busy for {PATIENCE_S} s; the whole scan has not been analysed")


def columns_of_scan(context, source, inner_px, outer_px, pixel_size=None, name="4D-STEM scan"):
    """Yield the answer for the scan as it fills, and at last for the whole. Raises: Refused for the whole.

    Args: context, source: LiberTEM's (live or not). inner_px, outer_px: of the annular detector. pixel_size: of the scan [Å/px].
    """
    sent = 0.0
    for part in context.run_udf_iter(source, AnnularDarkField(inner_px, outer_px)):
        image = np.asarray(part.buffers[0]["intensity"].data)
        there = np.asarray(part.damage.data).reshape(image.shape)
        rows = int(np.argmin(there.all(axis=1))) if not there.all() else len(image)  # a scan fills row by row
        share = rows / len(image)
        if share == 1:
            yield ask_patiently(image, pixel_size, name)
            return
        if share >= sent + EVERY and rows >= LEAST_ROWS:
            sent = share
            try:
                answer = ask(image[:rows], pixel_size, name)
            except Refused:  # as of rows that show vacuum alone; the next image holds more
                continue
            if answer is not None:
                yield answer
