"""Artefacts as the stages before evaluate and compare write them, made up from a seed."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import files

POSES = ("downdog", "goddess", "plank", "tree", "warrior2")
# Name: (how often it is right, latency in ms, parameters, weights)
NINE = {
    "vgg16": (0.74, 61.0, 27_600_000, "random"),
    "resnet50": (0.71, 24.0, 24_640_000, "random"),
    "resnet50_v2": (0.80, 22.0, 24_620_000, "random"),
    "inception_v3": (0.69, 31.0, 22_850_000, "random"),
    "efficientnet_b0": (0.66, 12.1, 4_710_000, "random"),
    "efficientnet_v2_b0": (0.68, 10.4, 6_580_000, "random"),
    "mobilenet_v3_small": (0.61, 3.21, 1_240_000, "random"),
    "convnext_tiny": (0.77, 42.0, 28_220_000, "random"),
    "scratch": (0.52, 1.4, 1_180_000, "none"),
}
REASON = "no mirror, and https://storage.googleapis.com cannot be reached (timed out after 5 s)"


def predictions(classes: tuple[str, ...], right: float, seed: int, per_class: int = 22) -> pd.DataFrame:
    """Return predictions for both splits, right about as often as `right` says."""
    random = np.random.default_rng(seed)
    actual = np.tile(np.repeat(np.arange(len(classes)), per_class), 2)
    logits = random.normal(0, 1, (len(actual), len(classes)))
    logits[np.arange(len(actual)), actual] += 4 * right - 1
    # Neighbours look alike.
    logits[np.arange(len(actual)), (actual + 1) % len(classes)] += 0.8
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "split": ["validation"] * (len(actual) // 2) + ["test"] * (len(actual) // 2),
            "file": [f"{classes[c]}/{i:04}.jpg" for i, c in enumerate(actual)],
            "label": np.array(classes, dtype=object)[actual],
            "predicted": np.array(classes, dtype=object)[probabilities.argmax(axis=1)],
        }
    )
    return pd.concat([table, pd.DataFrame(probabilities, columns=[f"p:{name}" for name in classes])], axis=1)


def history(seed: int, head: int = 14, finetune: int = 5) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    epochs = head + finetune
    progress = 1 - np.exp(-np.arange(1, epochs + 1) / 4)
    return pd.DataFrame(
        {
            "phase": ["head"] * head + ["finetune"] * finetune,
            "epoch": np.arange(1, epochs + 1),
            "loss": 1.7 - 1.1 * progress,
            "accuracy": 0.2 + 0.7 * progress,
            "val_loss": 1.7 - 0.8 * progress + random.normal(0, 0.03, epochs),
            "val_accuracy": np.clip(0.2 + 0.5 * progress + random.normal(0, 0.02, epochs), 0, 1),
            "learning_rate": 0.001,
        }
    )


def provenance(backbone: str, classes: tuple[str, ...], parameters: int, weights: str) -> dict[str, Any]:
    published = weights == "imagenet"
    return {
        "backbone": backbone,
        "builder": backbone,
        "input_size": 224,
        "classes": list(classes),
        "parameters": parameters,
        "trainable_parameters": 530_000,
        "pooling": "average",
        "unfrozen_blocks": "all" if weights == "none" else 0,
        "engine": "openvino",
        "precision": "bfloat16",
        "epochs_run": 19,
        "best_epoch": 13,
        "weights": {
            "source": weights,
            "reason": REASON if weights == "random" else "",
            "file": f"{backbone}_notop.h5" if published else "",
            "checksum": "md5:6d6bbae143d832006294945121d1f1fc" if published else "",
        },
        "train_pictures": 220,
        "train_views": 660,
        "seed": 20,
    }


def benchmark(latency: float, parameters: int) -> dict[str, Any]:
    return {
        "latency_ms_median": latency,
        "latency_ms_p95": 1.12 * latency,
        "throughput_per_s": 1300 / latency,
        "batch_size": 32,
        "size_mb": parameters * 4 / 1e6,
        "parameters": parameters,
        "flops": parameters * 300,
        "peak_memory_mb": 410.5,
        "processor": "x86-64, 2 cores",
        "engine": "openvino",
        "precision": "float32",
        "threads": 2,
    }


def splits(classes: tuple[str, ...]) -> pd.DataFrame:
    rows = [
        (f"{name}/{i:04}.jpg", name, f"{name}{max(i, 2)}", "test" if i < 22 else "validation" if i < 44 else "train")
        for name in classes
        for i in range(88)
    ]
    return pd.DataFrame(rows, columns=["file", "label", "group", "split"])


def write_model(root: Path, backbone: str, classes: tuple[str, ...], table: pd.DataFrame, weights: str) -> None:
    folder = root / "data/models" / backbone
    files.write_csv(folder / "predictions.csv", table)
    files.write_csv(folder / "history.csv", history(zlib.crc32(backbone.encode())))
    files.write_json(folder / "provenance.json", provenance(backbone, classes, 4_700_000, weights))


def write_data(root: Path, classes: tuple[str, ...], rejects: tuple[tuple[str, str], ...]) -> None:
    files.write_csv(root / "data/splits.csv", splits(classes))
    files.write_csv(root / "data/rejects.csv", pd.DataFrame(rejects, columns=["path", "reason"]))


def write_params(root: Path, backbones: list[str]) -> None:
    declared = "".join(f"  {files.json.dumps(name)}: {{}}\n" for name in backbones)
    (root / "params.yaml").write_text(
        f"backbones:\n{declared}evaluate:\n  confidence: 0.95\n  top_k: 2\n  calibration_bins: 10\n",
        encoding="utf-8",
    )
