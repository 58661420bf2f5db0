"""Draw docs/demo.png: columns, angle and first latent of the demo frame, side by side, from a finished analysis.

make demo && python scripts/make_readme_picture.py demo-out
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
HEIGHT = 620


def main(folder: Path) -> None:
    panels = []
    for name in ("frame.png", "angle.png", "latent_1.png"):
        image = Image.open(folder / name).convert("RGB")
        panels.append(image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS))
    picture = Image.fromarray(np.concatenate([np.asarray(panel) for panel in panels], axis=1))
    picture.quantize(192).save(ROOT / "docs" / "demo.png", optimize=True)
    print(f"docs/demo.png: {picture.width} x {picture.height}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
