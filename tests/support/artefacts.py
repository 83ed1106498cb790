"""Artefacts as the stages before evaluate and compare write them, made up from a seed."""

import copy
import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core import files
from stages.core.measure import Measure
from stages.core.predictions import of_folds, of_repeats, of_split, tested
from stages.core.settings.evaluate import EvaluateParams
from stages.core.shares import Training
from stages.core.shares import table as table_of_trainings
from stages.evaluate import digest, evaluate, over_folds, over_heads, over_measure, over_repeats
from stages.report.runs import Run
from stages.statistics.contest import Contest, read_contest
from stages.statistics.groups import Groups
from stages.statistics.ranking import COLUMNS
from stages.statistics.shares import Shares, over_shares
from tests.support.collection import encoded, image

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
SETTINGS = EvaluateParams(confidence=0.95, top_k=2, calibration_bins=10, resamples=200)
MEASURE = Measure("accuracy")
SEED = 20
FLOAT32 = {"precision": "float32", "images": 0, "differing": 0, "right": 0}
UNCHECKED = {"declared": "raw", "layer": None, "images": 0, "distance": None}
UNTRAINED = {"head_seconds": 0.0, "finetune_seconds": 0.0}
NO_TRIALS = pd.DataFrame(columns=["trial", "state", "epochs", "log_loss", "accuracy"])
# What evaluate made of predictions, by these and how they are evaluated.
_KNOWN: dict[bytes, dict[str, Any]] = {}
REASON = "no mirror, and https://storage.googleapis.com cannot be reached (timed out after 5 s)"


def predictions(classes: tuple[str, ...], right: float, seed: int, per_class: int = 22) -> pd.DataFrame:
    """Return predictions for both splits, right about as often as `right` says."""
    random = np.random.default_rng(seed)
    actual = np.tile(np.repeat(np.arange(len(classes)), per_class), 2)
    number = np.concatenate([np.tile(np.arange(first, first + per_class), len(classes)) for first in (per_class, 0)])
    logits = random.normal(0, 1, (len(actual), len(classes)))
    logits[np.arange(len(actual)), actual] += 4 * right - 1
    # Neighbours look alike.
    logits[np.arange(len(actual)), (actual + 1) % len(classes)] += 0.8
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "split": ["validation"] * (len(actual) // 2) + ["test"] * (len(actual) // 2),
            "file": [f"{classes[c]}/{i:04}.png" for c, i in zip(actual, number, strict=True)],
            "label": np.array(classes, dtype=object)[actual],
            "predicted": np.array(classes, dtype=object)[probabilities.argmax(axis=1)],
        }
    )
    return pd.concat([table, pd.DataFrame(probabilities, columns=[f"p:{name}" for name in classes])], axis=1)


def folds(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return predictions as those of `count` folds: the files are assigned to them in turn."""
    assigned = table.drop(columns="split").drop_duplicates("file", ignore_index=True)
    assigned.insert(0, "fold", np.arange(len(assigned)) % max(count, 1))
    return assigned.sort_values(["fold", "file"], ignore_index=True)


def repeats(table: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """Return predictions as those of `count` trainings, the main one included: each repeat errs a little elsewhere."""
    runs = [_altered(table, 0.05, repeat).assign(repeat=repeat) for repeat in range(1, count)]
    return pd.concat(runs or [table[:0].assign(repeat=0)], ignore_index=True)[["repeat", *table]]


def shares(
    table: pd.DataFrame,
    classes: tuple[str, ...] = POSES,
    found: tuple[float, ...] = (0.1, 0.25, 0.5),
    images: int = 220,
    draws: int = 1,
) -> list[Training]:
    """Return trainings on fractions of the `images`, which predict the test images: the fewer, the worse."""
    test = table[table["split"] == "test"]
    return [
        Training(share, draw, round(images * share), _places(_altered(test, (1 - share) / 2, 9 * draw + n), classes))
        for n, share in enumerate(found)
        for draw in range(draws)
    ]


def foreseen(unknown: str | None) -> dict[str, Any]:
    """Return what evaluate writes about twice the images, or why that is unknown."""
    return {
        "unknown": unknown,
        "confidence": 0.8,
        "twice": {"known": 330, "images": 660, "accuracy": 0.912, "low": 0.893, "high": 0.934},
        "backtest": {"known": 165, "images": 330, "accuracy": 0.851, "low": 0.83, "high": 0.874},
        "line": [] if unknown else [[330, 0.9], [460, 0.907], [660, 0.912]],
    }


def _places(table: pd.DataFrame, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the positions of what was predicted among the classes."""
    return np.asarray(pd.Index(classes).get_indexer(pd.Index(table["predicted"])), dtype=np.int64)


def heads(table: pd.DataFrame, kept: str) -> pd.DataFrame:
    """Return heads.csv: what was `kept` has the predictions of `table`, what else was tried errs a little elsewhere.

    A network that was trained from scratch has no other; else there are a linear head, a dense one where one was kept
    or lost, and an unfrozen one where that was kept.
    """
    both = table[table["split"] != "train"]
    tried = [kept] if kept == "whole" else ["linear", "dense", *(["unfrozen"] if kept == "unfrozen" else [])]
    found = [
        (both if name == kept else _altered(both, 0.1, number)).assign(head=name) for number, name in enumerate(tried)
    ]
    return pd.concat(found, ignore_index=True)[["head", *table]]


def out_of_fold(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with training images in front, as many as those for validation, which no fit had seen either."""
    found = table[table["split"] == "validation"].assign(split="train", file="train/" + table["file"])
    return pd.concat([found, table], ignore_index=True)


def _altered(table: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Return the table with the predictions of a `share` of its images assigned anew among these."""
    chosen = np.random.default_rng(seed).permutation(len(table))[: round(share * len(table))]
    columns = [name for name in table if name == "predicted" or name.startswith("p:")]
    altered = table.copy()
    altered.iloc[chosen, altered.columns.get_indexer(columns)] = table[columns].to_numpy()[np.roll(chosen, 1)]
    return altered


def nine(classes: tuple[str, ...] = POSES, weights: str = "imagenet", **changes: Any) -> list[Run]:
    """Return the nine backbones, the pretrained ones with these `weights`; `changes` are those of `predictions`."""
    found = []
    for seed, (backbone, (right, latency, parameters, own)) in enumerate(NINE.items()):
        facts = provenance(backbone, classes, parameters, own if own == "none" else weights)
        table = predictions(classes, right, seed, **changes)
        costs = benchmark(latency, parameters)
        found.append(run(backbone, table, classes, benchmark=costs, provenance=facts))
    return found


def timings(seed: int) -> dict[str, Any]:
    return {"head_seconds": 4.0 + seed % 7, "finetune_seconds": 20.0 + seed % 5}


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


def provenance(
    backbone: str, classes: tuple[str, ...], parameters: int, weights: str, kept: str | None = None
) -> dict[str, Any]:
    """Return provenance.json of a backbone with a dense head, or of a network trained from nothing; or with `kept`."""
    published = weights == "imagenet"
    kept = kept or ("whole" if weights == "none" else "dense")
    return {
        "backbone": backbone,
        "builder": backbone,
        "arguments": {},
        "input_size": 224,
        "classes": list(classes),
        "parameters": parameters,
        "trainable_parameters": 530_000,
        "pooling": "average",
        "head": head(kept),
        "unfrozen": {"blocks": 9, "of": 18, "epochs": 4, "stopped": ""} if kept == "unfrozen" else None,
        "top": {"unfrozen": {"input": "block_9"}, "whole": {"input": "image"}}.get(kept),
        "engine": "openvino",
        "precision": "bfloat16",
        "inputs": {"declared": "tf", "layer": "bn_Conv1", "images": 64, "distance": 0.71} if published else UNCHECKED,
        "epochs_run": 0 if kept == "linear" else 19,
        "best_epoch": 0 if kept == "linear" else 13,
        "weights": {
            "source": weights,
            "reason": REASON if weights == "random" else "",
            "file": f"{backbone}_notop.h5" if published else "",
            "checksum": "md5:6d6bbae143d832006294945121d1f1fc" if published else "",
        },
        "train_images": 330 if kept == "linear" else 220,
        "train_views": 330 if kept == "linear" else 660,
        "seed": 20,
        "versions": {"keras": "3.15.1", "tensorflow": "2.21.0"},
    }


def head(kept: str) -> dict[str, Any]:
    """Return what provenance.json says of the head that was kept."""
    linear = kept == "linear"
    return {
        "kept": kept,
        "declared": {"linear": "dense"}.get(kept, kept),
        "choose": "best",
        "validation_log_loss": {"linear": 0.81, "dense": 0.83},
        "strength": 30.0 if linear else None,
        "fitted_on": ["train", "validation"] if linear else ["train"],
        "losses": {"10.0": 0.9, "30.0": 0.8},
    }


def benchmark(latency: float, parameters: int) -> dict[str, Any]:
    return {
        "latency_ms_median": latency,
        "latency_ms_p95": 1.12 * latency,
        "latency_under_load": False,
        "throughput_per_s": 1300 / latency,
        "throughput_under_load": False,
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


def splits(classes: tuple[str, ...], per_class: int = 22) -> pd.DataFrame:
    """Return the split of `predictions`: a quarter tests, a quarter chooses, half of them train."""
    parts = ["test"] * per_class + ["validation"] * per_class + ["train"] * 2 * per_class
    rows = [(f"{name}/{i:04}.png", name, f"{name}{i}", part) for name in classes for i, part in enumerate(parts)]
    return pd.DataFrame(rows, columns=["file", "label", "group", "split"])


def write_images(raw: Path, names: Iterable[str]) -> None:
    """Write an image under each name, as ingest accepted it."""
    for number, name in enumerate(names):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes(encoded(image(number)))


def explained(table: pd.DataFrame, count: int = 2) -> pd.DataFrame:
    """Return the first right and wrong answers of `tested` images, as explain shows them."""
    right = table["label"] == table["predicted"]
    rows = table.assign(right=right.map({True: "true", False: "false"})).groupby("right", sort=False).head(count)
    names = [f"{number}.webp" for number in range(len(rows))]
    return rows.assign(image=names, overlay=[f"map_{name}" for name in names])


def mapped(table: pd.DataFrame) -> pd.DataFrame:
    """Return a place for each of the `tested` images: classes lie in a circle."""
    turn, random = pd.factorize(table["label"])[0], np.random.default_rng(1)
    spread = random.normal(0, 2, (2, len(table)))
    return table[["file", "label"]].assign(x=10 * np.cos(turn) + spread[0], y=10 * np.sin(turn) + spread[1])


def write_explanation(folder: Path, table: pd.DataFrame) -> None:
    """Write what explain writes of the `tested` images."""
    examples = explained(table)
    files.write_csv(folder / "examples.csv", examples)
    files.write_csv(folder / "embedding.csv", mapped(table))
    files.write_json(folder / "precision.json", FLOAT32)
    for number, name in enumerate([*examples["image"], *examples["overlay"]]):
        image(number, (128, 128)).save(folder / name, "WEBP")


def write_model(
    root: Path,
    backbone: str,
    classes: tuple[str, ...],
    table: pd.DataFrame,
    weights: str,
    count: int = 0,
    kept: str | None = None,
) -> None:
    """Write what finetune writes; `count` folds hold the images of `table`, or no folds none."""
    folder = root / "data/models" / backbone
    _add_groups(root / "data/splits.csv", out_of_fold(table))
    facts = provenance(backbone, classes, 4_700_000, weights, kept)
    linear = facts["head"]["kept"] == "linear"
    files.write_csv(folder / "repeats.csv", repeats(table, 1 if linear else 3))
    files.write_csv(folder / "heads.csv", heads(table, facts["head"]["kept"]))
    # Linear heads learn from training and validation images, which the tables of predictions are made up for.
    images, draws = (220, 1) if facts["head"]["kept"] == "whole" else (330, 2)
    files.write_csv(folder / "shares.csv", table_of_trainings(shares(table, classes, images=images, draws=draws)))
    files.write_csv(folder / "baseline.csv", table[:0])
    files.write_json(root / f"data/tuning/{backbone}/search.json", {"not_searched": "off"})
    files.write_csv(root / f"data/tuning/{backbone}/trials.csv", NO_TRIALS)
    seconds = UNTRAINED if linear else timings(zlib.crc32(backbone.encode()))
    for stage, key in {"finetune": "head_seconds", "unfreeze": "finetune_seconds"}.items():
        files.write_json(root / f"data/timings/{stage}/{backbone}.json", {"seconds": seconds[key]})
    files.write_csv(folder / "predictions.csv", out_of_fold(table) if linear else table)
    files.write_csv(folder / "folds.csv", folds(table if count else table[:0], count))
    files.write_csv(folder / "history.csv", history(zlib.crc32(backbone.encode()))[: 0 if linear else None])
    files.write_json(folder / "provenance.json", facts)
    write_explanation(root / "data/explanations" / backbone, tested(table, classes))


def _add_groups(path: Path, table: pd.DataFrame) -> None:
    """Add the images of predictions to data/splits.csv, those that are not there yet, as groups of their own."""
    known = pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else pd.DataFrame(columns=["file"])
    new = table.drop_duplicates("file")[["file", "label", "split"]].assign(group=lambda rows: rows["file"])
    files.write_csv(path, pd.concat([known, new[~new["file"].isin(known["file"])]], ignore_index=True))


def audit(reasons: dict[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    """Return data/audit.json of images with which nothing is wrong, but for `reasons` and `changes`."""
    reasons = reasons or {}
    pairs = {"groups": 0, "images": 0}
    values = {
        "accepted": 440,
        "rejected": sum(reasons.values()),
        "reasons": reasons,
        "beside_images": 0,
        "classes": 5,
        "images": dict.fromkeys(POSES, 88),
        "splits": {"train": 220, "validation": 110, "test": 110, "dropped": 0},
        "groups": {},
        "smallest_class_training_images": 44,
        "small_classes": {},
        "imbalance": 1.0,
        "balanced": False,
        "exact_copies": pairs,
        "near_copies": pairs | {"under_two_labels": 0},
        "conflicts": pairs,
        "leaks": pairs | {"test": 0, "split_used": False},
        "outliers": dict.fromkeys(("images", "dark", "light", "blurry", "low_information", "odd_aspect_ratio"), 0),
        "suspects": {"images": 0, "test": 0, "share": 0.0, "weights": "imagenet", "accuracy_of_probes": {"vgg16": 0.8}},
    }
    return values | changes


def write_data(root: Path, classes: tuple[str, ...], reasons: dict[str, int], per_class: int = 22) -> None:
    table = splits(classes, per_class)
    files.write_csv(root / "data/splits.csv", table)
    files.write_csv(
        root / "data/manifest.csv",
        table[["file", "label"]].assign(sha256=table["file"], path="images/" + table["file"]),
    )
    write_images(root / "data/raw", table.loc[table["split"] == "test", "file"])
    files.write_json(root / "data/audit.json", audit(reasons))


def ranking(backbones: Iterable[str]) -> pd.DataFrame:
    """Return data/ranking.csv of backbones in this order; one without weights from elsewhere has no features."""
    rows = []
    for place, name in enumerate(backbones, start=1):
        weights = NINE.get(name, (0, 0, 0, "imagenet"))[-1]
        accuracy = 0.9 - place / 50
        interval, apart = (accuracy - 0.04, accuracy + 0.03), "" if place == 1 else "false"
        rows.append([place, name, accuracy, *interval, 0.5, -place / 10, None, apart, 330, weights])
        if weights == "none":
            rows[-1][:] = [None, name, *[None] * 6, "", 0, weights]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"rank": "Int64"})


def write_params(root: Path, backbones: list[str], language: str = "en", measure: str = "accuracy") -> None:
    files.write_csv(root / "data/ranking.csv", ranking(backbones))
    files.write_json(root / "data/recipes/names.json", {"backbones": backbones})
    declared = "".join(f"  {json.dumps(name)}: {{}}\n" for name in backbones)
    (root / "params.yaml").write_text(
        f"preset: full\nseed: {SEED}\nthreads: 2\ndata:\n  source: images/poses\nbackbones:\n{declared}"
        "split:\n  use_folders: false\n"
        "evaluate:\n  confidence: 0.95\n  top_k: 2\n  calibration_bins: 10\n  resamples: 200\n"
        f"report:\n  measure: {measure}\n  costs: {{}}\n  language: {language}\n  margin: 2\n"
        "  prefer: size\n  examples: 12\n",
        encoding="utf-8",
    )


def groups_of(table: pd.DataFrame) -> "pd.Series[str]":
    """Return the groups of the images of predictions: each is alone."""
    files_of = table["file"].drop_duplicates()
    return pd.Series(files_of.to_numpy(), index=files_of)


def outcomes(runs: list[Run]) -> Contest:
    """Return the answers of the runs to the test images, by the measure that they were scored by, no probabilities."""
    tables = {run.backbone: run.tested for run in runs}
    repeats = {run.backbone: run.repeats for run in runs}
    measure = Measure(runs[0].metrics["measure"]["name"])
    return read_contest(measure, tables, groups_of(runs[0].tested), repeats, dict.fromkeys(tables))


def run(
    backbone: str,
    table: pd.DataFrame,
    classes: tuple[str, ...] = POSES,
    count: int = 0,
    trainings: int = 0,
    measure: Measure = MEASURE,
    **changes: Any,
) -> Run:
    """Return what compare reads about one backbone; `changes` replace what else a Run holds.

    The `measure` decides. With `count` the images of `table` are those of so many folds, too. A dense head has three
    `trainings` unless said otherwise, a linear one has one.
    """
    facts = changes.get("provenance") or provenance(backbone, classes, 4_700_000, "imagenet")
    kept = facts["head"]["kept"]
    values = {
        **_evaluated(table, classes, count, trainings or (1 if kept == "linear" else 3), measure, kept),
        "benchmark": benchmark(10.0, 4_700_000),
        "history": history(zlib.crc32(backbone.encode()))[: 0 if kept == "linear" else None],
        "provenance": facts,
        "timings": dict(UNTRAINED) if kept == "linear" else timings(zlib.crc32(backbone.encode())),
        "search": {"not_searched": "off"},
        "precision": FLOAT32,
        "trials": NO_TRIALS,
    }
    return Run(backbone, **(values | changes))


def _evaluated(table: pd.DataFrame, *how: Any) -> dict[str, Any]:
    """Return what evaluate makes of predictions, computed once for the same ones: most tests are of few tables."""
    content = [(name, table[name].tolist()) for name in table]
    key = hashlib.sha256(repr((content, how)).encode()).digest()
    if key not in _KNOWN:
        _KNOWN[key] = _evaluate(table, *how)
    return copy.deepcopy(_KNOWN[key])


def _evaluate(
    table: pd.DataFrame, classes: tuple[str, ...], count: int, trainings: int, measure: Measure, kept: str
) -> dict[str, Any]:
    test, validation = (of_split(table, split, classes) for split in ("test", "validation"))
    again = repeats(table, trainings)
    result = evaluate(test, Groups.single(len(test.actual)), validation, validation, SETTINGS, measure, SEED)
    images, stopped, draws = (220, 110, 1) if kept == "whole" else (330, 0, 2)
    fewer = [*shares(table, classes, images=images, draws=draws), Training(1.0, 0, images, test.predicted)]
    assigned = folds(table, count)
    by_fold = over_folds(of_folds(assigned, classes), 0.95) | {"digest": digest(assigned)} if count else {}
    # As read back from a file: what is not a number is nothing.
    more = {
        "weights": "imagenet",
        "repeats": over_repeats(test, of_repeats(again, classes)),
        **over_shares(Shares(fewer, test.actual, stopped), Groups.single(len(test.actual)), 0.95, SEED),
        "tuning": None,
        "heads": over_heads(
            heads(table, kept), {kept: result.metrics["temperature"]}, classes, groups_of(table), SETTINGS, measure
        ),
        "measure": over_measure(measure, result.metrics, table, classes, groups_of(table)),
    }
    metrics = json.loads(json.dumps(files._plain(result.metrics | more | ({"folds": by_fold} if count else {}))))
    return {
        "metrics": metrics,
        "confusion": result.confusion,
        "calibration": result.calibration,
        "calibration_scaled": result.calibration_scaled,
        "tested": tested(table, classes),
        "repeats": again[again["split"] == "test"],
    }


def searched(found: Run, count: int = 12, gain: dict[str, float] | None = None) -> Run:
    """Return the run with a search of so many trials, the third last of which was pruned, and the `gain` it brought."""
    random, numbers = np.random.default_rng(zlib.crc32(found.backbone.encode())), np.arange(count)
    trials = pd.DataFrame(
        {
            "trial": numbers,
            "state": np.where(numbers == count - 3, "pruned", "complete"),
            "epochs": 12,
            "log_loss": np.where(numbers == count - 3, np.nan, 1.2 - 0.03 * numbers + random.normal(0, 0.05, count)),
            "accuracy": 0.6,
            "learning_rate": 10 ** random.uniform(-4, -1, count),
            "optimizer": np.where(numbers % 2, "adam", "sgd"),
            "units": np.where(numbers % 3, "[512]", "[]"),
            "dropout": random.uniform(0, 0.7, count),
        }
    )
    names = ["learning_rate", "optimizer", "units", "dropout"]
    values = [{**trials.loc[at, names].to_dict(), "units": [512]} for at in (0, trials["log_loss"].idxmin())]
    default, chosen = values if gain else (values[0], values[0])
    search = {
        "measure": "log_loss",
        "default": default,
        "chosen": chosen,
        "default_measure": float(trials["log_loss"].iloc[0]),
        "chosen_measure": float(trials["log_loss"].min() if gain else trials["log_loss"].iloc[0]),
        "importance": {"learning_rate": 0.7, "optimizer": 0.2, "units": 0.06, "dropout": 0.04},
    }
    return replace(found, trials=trials, search=search, metrics=found.metrics | {"tuning": gain})


def answers(actual: list[str], predicted: list[str], classes: tuple[str, ...]) -> pd.DataFrame:
    """Return predictions made with full confidence, the same for both splits."""
    table = pd.DataFrame({"file": [f"{i}.jpg" for i in range(len(actual))], "label": actual, "predicted": predicted})
    certain = (table[["predicted"]].to_numpy() == np.array(classes, dtype=object)).astype(float)
    table = pd.concat([table, pd.DataFrame(certain, columns=[f"p:{name}" for name in classes])], axis=1)
    return pd.concat([table.assign(split=split) for split in ("validation", "test")], ignore_index=True)
