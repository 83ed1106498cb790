"""Metrics of a classifier, from classes as positions and probabilities with rows that sum to 1.

n is the number of images and C of classes. `actual` and `predicted` have shape (n,), with values
from 0 to C - 1; `probabilities` has shape (n, C).
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Classes = NDArray[np.int64]
Probabilities = NDArray[np.float64]


def accuracy(actual: Classes, predicted: Classes) -> float:
    """Return the fraction of images whose class is predicted. Higher is better."""
    return float(np.mean(actual == predicted))


def macro_f1(actual: Classes, predicted: Classes) -> float:
    """Return the mean over classes of F1 = 2 TP / (2 TP + FP + FN). Higher is better.

    Each class has the same weight, however many images it has. A class is included if it has images or
    is predicted; Sokolova and Lapalme 2009, macro-averaging.
    """
    from sklearn.metrics import f1_score

    return float(f1_score(actual, predicted, average="macro", zero_division=0.0))


def balanced_accuracy(actual: Classes, predicted: Classes) -> float:
    """Return the mean over the classes with images of recall = TP / (TP + FN). Higher is better.

    Brodersen et al. 2010; the value of `balanced_accuracy_score`, which warns when a class without
    images is predicted.
    """
    from sklearn.metrics import recall_score

    return float(recall_score(actual, predicted, labels=np.unique(actual), average="macro"))


def top_k(actual: Classes, probabilities: Probabilities, k: int) -> float:
    """Return the fraction of images whose class is among the `k` most probable. Higher is better.

    Of equally probable classes the earlier comes first, as in the prediction itself, so that top 1 is
    the accuracy. `top_k_accuracy_score` accepts no two-column table and warns when k reaches C.
    """
    first = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean((first == actual[:, None]).any(axis=1)))


def log_loss(actual: Classes, probabilities: Probabilities) -> float:
    """Return the mean of -ln p(actual class), in nats. Lower is better; ln C is that of a uniform guess.

    A probability of 0 for the actual class counts as 2.2e-16, so one such image adds 36 / n.
    Good 1952, "Rational decisions".
    """
    from sklearn.metrics import log_loss as mean_log_loss

    return float(mean_log_loss(actual, probabilities, labels=np.arange(probabilities.shape[1])))


def per_class(actual: Classes, predicted: Classes, classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return precision TP / (TP + FP), recall TP / (TP + FN), F1 and support (images) of each class.

    Division by zero gives NaN: the precision of a class never predicted, the recall of one without images.
    """
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        actual, predicted, labels=np.arange(len(classes)), average=None, zero_division=np.nan
    )
    names = ("precision", "recall", "f1", "support")
    return {name: dict(zip(names, row, strict=True)) for name, *row in zip(classes, *columns, strict=True)}


def bin_of(confidence: NDArray[np.float64], bins: int) -> Classes:
    """Return the position of each confidence's bin: bin m of M equally wide ones holds those in ((m - 1)/M, m/M]."""
    edges = np.arange(bins + 1) / bins
    return np.asarray(np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1))


def calibration(actual: Classes, predicted: Classes, probabilities: Probabilities, bins: int) -> pd.DataFrame:
    """Return the mean confidence and the accuracy in each of `bins` equally wide bins of confidence.

    The confidence of a prediction is its largest probability; `bin_of` defines the bins. Columns: low, high, images,
    confidence and accuracy (means; NaN in an empty bin).
    """
    confidence, edges = probabilities.max(axis=1), np.arange(bins + 1) / bins
    bins_of = bin_of(confidence, bins)
    images = np.bincount(bins_of, minlength=bins)
    filled = np.where(images > 0, images, np.nan)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "images": images,
            "confidence": np.bincount(bins_of, weights=confidence, minlength=bins) / filled,
            "accuracy": np.bincount(bins_of, weights=actual == predicted, minlength=bins) / filled,
        }
    )


def expected_calibration_error(table: pd.DataFrame) -> float:
    """Return ECE = Σ (images in bin / n) |accuracy - confidence| of `calibration`. Lower is better.

    Naeini et al. 2015; Guo et al. 2017, "On calibration of modern neural networks", equation 3.
    """
    gaps = (table["accuracy"] - table["confidence"]).abs().fillna(0)
    return float((gaps * table["images"]).sum() / table["images"].sum())
