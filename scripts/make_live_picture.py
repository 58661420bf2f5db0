"""Draw docs/live.jpg again: the live page with the frame that ships with stemzoo, and one kind of its columns chosen in latent space.

    python scripts/make_live_picture.py [--out docs/live.jpg]

Starts `stemzoo serve` with the zoo's models and draws round a cluster in a headless Chromium, as bench_page.py does. Needs playwright.
"""

from __future__ import annotations

import argparse
import io
import urllib.request
from pathlib import Path

import numpy as np
from bench_page import REPOSITORY, live_page
from PIL import Image

FRAME = REPOSITORY / "stemzoo" / "demo" / "sr3fe2o7_100.tif"
FRAMES = 4  # sent, so that the strip below the scan shows a series
MIDDLE, REACH = (0.3, 0.3), (0.15, 0.2)  # of the lasso, in sides of the panel: around the columns between two perovskite layers


def main() -> None:
    """Send the frames, draw the lasso, keep the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "live.jpg")
    options = parser.parse_args()
    with live_page(1440, 810) as (page, url):
        for _ in range(FRAMES):
            request = urllib.request.Request(f"{url}analyze?file=sr3fe2o7.tif", FRAME.read_bytes())
            request.add_header("Content-Type", "application/octet-stream")
            urllib.request.urlopen(request, timeout=120).read()
            page.wait_for_timeout(500)
        page.wait_for_timeout(1000)
        box = page.locator("#scatter").bounding_box()
        assert box is not None, "the page shows no panel of latents"
        turns = np.linspace(0, 2 * np.pi, 40)
        x = box["x"] + box["width"] * (MIDDLE[0] + REACH[0] * np.cos(turns))
        y = box["y"] + box["height"] * (MIDDLE[1] + REACH[1] * np.sin(turns))
        page.mouse.move(x[0], y[0])
        page.mouse.down()
        for place in zip(x, y, strict=True):
            page.mouse.move(*place)
        page.mouse.up()
        page.wait_for_timeout(1000)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(options.out, quality=86, optimize=True)
    print(options.out)


if __name__ == "__main__":
    main()
