"""Measure in a real browser whether the live page keeps up: a frame of 1024² with about 5,000 columns, drawn, lassoed, zoomed.

    python scripts/bench_page.py [--picture live.png] [--seconds 4]

Starts `stemzoo serve` with the zoo's models, sends a simulated frame, and drives a headless Chromium of the system's (STEMZOO_CHROMIUM,
else chromium on the PATH) as a hand would: a lasso in the distribution, one over the scan, the wheel over the scan. Printed are, for each,
the pictures a second, the time between two of them, and tasks of more than 50 ms, which is what a hand feels; headless Chromium draws with
the processor alone, on as many cores as the server has left it. Needs playwright.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "geometry")]

from simulated import lattice, scene  # noqa: E402

SIDE, SPACING, SIGMA, PIXEL_SIZE = 1024, 14.4, 2.2, 0.19

MOVEMENTS = (("lasso in the distribution", "scatter", False), ("lasso over the scan", "scan", False), ("wheel over the scan", "scan", True))

# Long tasks tell of stutter: anything that keeps the page from answering for more than 50 ms.
WATCH = """() => { const seen = window.seen = { at: [], long: [] };
  new PerformanceObserver((list) => { for (const task of list.getEntries()) seen.long.push(task.duration); }).observe({ type: 'longtask' });
  const tick = (now) => { seen.at.push(now); requestAnimationFrame(tick); }; requestAnimationFrame(tick); }"""
FRESH = "() => { window.seen.at.length = 0; window.seen.long.length = 0; }"


def frame() -> np.ndarray:
    """Return a frame (1024, 1024) uint16 of a perovskite whose right half is turned by 8 degrees."""
    halves = []
    for turn, right in ((0.2, False), (0.34, True)):
        yx, peak = lattice("perovskite", SPACING, SIDE, 5, margin_px=-8.0, turn=turn)
        inside = (yx[:, 1] >= SIDE / 2) == right
        halves.append((yx[inside], peak[inside]))
    yx, peak = (np.concatenate(parts) for parts in zip(*halves, strict=True))
    return np.asarray(scene(yx, peak * 300, SIGMA, (SIDE, SIDE), np.full((SIDE, SIDE), 60.0)).noisy(0)).astype(np.uint16)


@contextmanager
def live_page(width: int, height: int) -> Iterator[tuple[Any, str]]:
    """Start a server, and give its page as a headless Chromium shows it in a window of this size, and its address."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("STEMZOO_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    words = [sys.executable, "-m", "stemzoo", "serve", "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(url)
            page.wait_for_timeout(1000)
            yield page, url
            browser.close()
    finally:
        server.terminate()
        server.wait(20)


def send(url: str, image: np.ndarray) -> float:
    """Send a frame and return how long the answer took [s]."""
    file = io.BytesIO()
    np.save(file, image)
    request = urllib.request.Request(f"{url}analyze?pixel_size={PIXEL_SIZE}&name=perovskite", file.getvalue())
    request.add_header("Content-Type", "application/x-npy")
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
    return time.monotonic() - began


def move(page: Any, panel: str, seconds: float, wheel: bool) -> int:
    """Draw round the middle of a panel, or turn the wheel over it, for so long; return how many steps that were."""
    box = page.locator(f"#{panel}").bounding_box()
    x, y, steps = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, 0
    page.mouse.move(x, y)
    if not wheel:
        page.mouse.down()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        turn, reach = 0.15 * steps, 0.05 + 0.3 * abs(np.sin(0.01 * steps))
        if wheel:
            page.mouse.wheel(0, -120 if steps % 40 < 20 else 120)
        else:
            page.mouse.move(x + reach * box["width"] * np.cos(turn), y + reach * box["height"] * np.sin(turn))
        steps += 1
    if not wheel:
        page.mouse.up()
    return steps


def main() -> None:
    """Run it all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="where a screenshot with a selection goes")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each movement")
    options = parser.parse_args()
    with live_page(1920, 1080) as (page, url):
        image = frame()
        send(url, image)  # the first is slower
        took = send(url, image)
        page.wait_for_timeout(1500)
        columns = page.evaluate("stemzoo.app.frame.n")
        print(f"{SIDE}², {columns} columns: answered after {took:.2f} s")
        page.evaluate(WATCH)
        for title, panel, wheel in MOVEMENTS:
            page.evaluate(FRESH)
            steps = move(page, panel, options.seconds, wheel)
            at, long = np.array(page.evaluate("window.seen.at")), page.evaluate("window.seen.long")
            between = np.diff(at)
            print(
                f"{title}: {steps} steps, {1000 / between.mean():.0f} pictures/s; between two: median {np.median(between):.0f} ms, "
                f"95 % {np.percentile(between, 95):.0f} ms, worst {between.max():.0f} ms; {len(long)} tasks above 50 ms"
                + (f", the longest {max(long):.0f} ms" if long else "")
            )
            page.wait_for_timeout(300)
        if options.picture is not None:
            page.keyboard.press("Escape")
            page.wait_for_timeout(300)
            move(page, "scatter", 0.5, False)
            page.wait_for_timeout(800)
            page.screenshot(path=str(options.picture))


if __name__ == "__main__":
    main()
