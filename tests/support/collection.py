"""A small collection of real images as ingest and split leave it behind, with whatever is planted in it."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.core import files
from stages.core.dataset.duplicates import colours, groups, perceptual_hash

FINE = {"dark": 0.9, "light": 0.9, "blurry": 0.9, "low_information": 0.9, "odd_aspect_ratio": 0.9}


def image(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Return coarse noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def retouched(image: Image.Image) -> Image.Image:
    """Return a near copy: it looks the same, and one pixel is another."""
    copy = image.copy()
    copy.putpixel((0, 0), (0, 0, 0))
    return copy


def encoded(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


class Collection:
    """Images that are added one by one, and the tables that `write` puts beside them below `data`."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.rows: list[dict[str, Any]] = []
        self.parts: list[str] = []
        self.rejects: list[tuple[str, str, str]] = []
        self.quarantined: list[tuple[str, str, str, str]] = []
        self.actions: dict[str, str] = {}

    def add(self, path: str, label: str, image: Image.Image, split: str = "train", **changes: Any) -> str:
        """Add an accepted image and return its file; `changes` replace columns of the manifest."""
        data = encoded(image)
        file = f"{label}/{hashlib.sha256(data + path.encode()).hexdigest()[:16]}.png"
        target = self.data / "raw" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        row = {
            "file": file,
            "path": path,
            "label": label,
            "sha256": hashlib.sha256(data).hexdigest(),
            "pixels_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
            "width": image.width,
            "height": image.height,
            "format": "PNG",
            "mode": "RGB",
            "bytes": len(data),
            "source_split": "",
            "source_group": "",
            "phash": perceptual_hash(image),
            "colours": colours(image),
        }
        self.rows.append(row | FINE | changes)
        self.parts.append(split)
        return file

    def quarantine(self, label: str, path: str, image: Image.Image, group: str) -> None:
        """Add an image that stands under two labels."""
        file = f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.png"
        (self.data / "quarantine").mkdir(parents=True, exist_ok=True)
        (self.data / "quarantine" / file).write_bytes(encoded(image))
        self.quarantined.append((file, path, label, group))
        self.rejects.append((path, label, "two labels: the same image as another"))

    def probe(self, backbone: str, probabilities: pd.DataFrame, **facts: Any) -> None:
        """Write what stage probe says of a backbone."""
        folder = self.data / "probes" / backbone
        splits = dict(zip((row["file"] for row in self.rows), self.parts, strict=True))
        table = probabilities.assign(split=probabilities["file"].map(splits), predicted=probabilities["label"])
        files.write_csv(folder / "predictions.csv", table)
        known = {"accuracy": 0.9, "images": len(probabilities), "left_out": 0, "frozen": True, "class_weight": "none"}
        files.write_json(folder / "probe.json", known | {"weights": "imagenet"} | facts)

    def certain(self, truth: dict[str, str] | None = None) -> pd.DataFrame:
        """Return predictions that know each image's class well; `truth` has that of paths with a wrong label."""
        classes = sorted({row["label"] for row in self.rows})
        records = []
        for number, row in enumerate(self.rows):
            right = (truth or {}).get(row["path"], row["label"])
            chances = [0.9 + number * 1e-4 if name == right else 0.1 / len(classes) for name in classes]
            records.append([row["file"], row["label"], *(chance / sum(chances) for chance in chances)])
        return pd.DataFrame(records, columns=["file", "label", *(f"p:{name}" for name in classes)])

    def write(self, near_duplicates: int | None = 16) -> None:
        """Write the tables of ingest and split."""
        manifest = pd.DataFrame(self.rows)
        manifest["group"] = groups(manifest, near_duplicates)
        leaking = manifest[manifest["path"].isin(self.actions)]
        splits = manifest[["file", "label", "group"]].assign(split=self.parts, fold=-1)
        (self.data / "quarantine").mkdir(parents=True, exist_ok=True)
        tables = {
            "manifest.csv": manifest,
            "splits.csv": splits,
            "rejects.csv": pd.DataFrame(self.rejects, columns=["path", "label", "reason"]),
            "quarantine/index.csv": pd.DataFrame(self.quarantined, columns=["file", "path", "label", "group"]),
            "leaks.csv": leaking[["file", "path", "source_split", "group"]].assign(
                action=leaking["path"].map(self.actions)
            ),
        }
        for name, table in tables.items():
            files.write_csv(self.data / name, table)
