"""A Nion Swift plug-in that marks the columns of the selected image and shows their angles, through `stemzoo serve` on the same machine.

Put this file into a folder `nionswift_plugin/stemzoo_columns/` as `__init__.py`, start `stemzoo serve`, start Swift, and choose
stemzoo > Find Columns. What speaks against a result is in Swift's Output panel. A skeleton: it waits for the answer in the user
interface's thread, a few hundred milliseconds a frame.
"""

import gettext
import io
import json
import logging
import urllib.error
import urllib.parse
import urllib.request

import numpy

_ = gettext.gettext
SERVER = "http://127.0.0.1:8765"
MARKED = 400  # Swift draws each mark as an object of its own; beyond this the maps must do
ANGSTROM = {"nm": 10.0, "Å": 1.0, "A": 1.0, "um": 1e4, "µm": 1e4, "pm": 0.01}


def ask(image, pixel_size, name):
    """Return the server's answer for an image (H, W); `pixel_size` in Å/px, or None."""
    query = {"name": name[:200], **({"pixel_size": f"{pixel_size:.6g}"} if pixel_size else {})}
    body = io.BytesIO()
    numpy.save(body, numpy.ascontiguousarray(image))
    request = urllib.request.Request(
        f"{SERVER}/analyze?{urllib.parse.urlencode(query)}", body.getvalue(), {"Content-Type": "application/x-npy"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(json.load(error)["error"]) from None


def angle_map(columns, shape):
    """Return (h, w) float32, a quarter of `shape`, with each column's angle [rad] around it and NaN elsewhere."""
    height, width = (max(1, side // 4) for side in shape)
    out = numpy.full((height, width), numpy.nan, dtype=numpy.float32)
    for y, x, angle in zip(columns["y_px"], columns["x_px"], columns["angle_rad"] or ()):
        if angle is not None:
            row, col = int(y) // 4, int(x) // 4
            out[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = angle
    return out


class FindColumns:
    """The menu item."""

    menu_id = "stemzoo_menu"
    menu_name = _("stemzoo")
    menu_before_id = "window_menu"
    menu_item_name = _("Find Columns")

    def __init__(self, api):
        self.__api = api

    def menu_item_execute(self, window):
        """Analyse the selected image."""
        item = window.target_data_item
        if item is None or item.xdata is None or item.xdata.data.ndim != 2:
            return
        calibration = item.xdata.dimensional_calibrations[0]
        scale = ANGSTROM.get(calibration.units)
        image = item.xdata.data
        answer = ask(image, scale and calibration.scale * scale, item.title)
        columns = answer["frames"][0]["columns"]
        for doubt in answer["doubts"]:
            logging.warning("%s: %s", item.title, doubt)
        if len(columns["y_px"]) > MARKED:
            logging.warning("%s: the first %d of %d columns are marked", item.title, MARKED, len(columns["y_px"]))
        for y, x in list(zip(columns["y_px"], columns["x_px"]))[:MARKED]:
            item.add_point_region((y + 0.5) / image.shape[0], (x + 0.5) / image.shape[1])
        if columns["angle_rad"]:
            shown = self.__api.library.create_data_item_from_data(angle_map(columns, image.shape), title=_("Angles of ") + item.title)
            window.display_data_item(shown)


class StemzooExtension:
    """What Swift looks for."""

    extension_id = "stemzoo.columns"

    def __init__(self, api_broker):
        api = api_broker.get_api(version="~1.0")
        self.__menu_item = api.create_menu_item(FindColumns(api))

    def close(self):
        """Take the menu item away."""
        self.__menu_item.close()
        self.__menu_item = None
