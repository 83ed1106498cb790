"""Images for tests that run the graph: small, drawn anew each time, and easy to tell apart."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw(folder: Path) -> None:
    """Write 16 JPEGs of each of three coloured shapes, noisy; one is a copy of another, one is broken."""
    random = np.random.default_rng(3)
    for shape, colour in {"disc": (200, 60, 50), "square": (60, 180, 70), "stripe": (60, 80, 200)}.items():
        (folder / shape).mkdir(parents=True)
        for number in range(16):
            ground = random.integers(90, 160, (40, 48, 3)).astype(np.uint8)
            image = Image.fromarray(ground)
            left, top = (int(offset) for offset in random.integers(2, 18, 2))
            box = (left, top, left + 18, top + (6 if shape == "stripe" else 18))
            pen = ImageDraw.Draw(image)
            (pen.ellipse if shape == "disc" else pen.rectangle)(box, fill=colour)
            image.save(folder / shape / f"{number:02}.jpg", quality=90)
    (folder / "disc/copy.jpg").write_bytes((folder / "disc/00.jpg").read_bytes())
    (folder / "disc/broken.jpg").write_bytes((folder / "disc/01.jpg").read_bytes()[:400])
