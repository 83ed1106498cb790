"""Output formats of predictions: a text table, CSV or JSON, written a batch at a time."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import one_line
from stages.core.files import FLOAT_FORMAT
from stages.core.predictions import PREFIX


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (n, size, size, 3), their paths, and the outputs: probabilities (n, classes), embedding (n, width)."""

    paths: Sequence[str]
    images: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]

    @property
    def classes(self) -> NDArray[np.int64]:
        """The position of the most probable class of each image, (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidences(self) -> NDArray[np.float32]:
        """The probability of that class, (n,)."""
        return np.asarray(self.probabilities.max(axis=1))


def _table(classes: Sequence[str], found: Iterable[Batch]) -> Iterator[str]:
    """Yield a text table, a batch at a time; paths, of any length, come last."""
    names = [one_line(name) for name in classes]
    width = max(len("label"), *map(len, names))
    yield f"{'label':<{width}}  confidence  path\n"
    for batch in found:
        rows = zip(batch.classes, batch.confidences, batch.paths, strict=True)
        yield "".join(f"{names[label]:<{width}}  {100 * value:8.1f} %  {path}\n" for label, value, path in rows)


def _csv(classes: Sequence[str], found: Iterable[Batch]) -> Iterator[str]:
    yield lines([["path", "label", "confidence", *(PREFIX + name for name in classes)]])
    for batch in found:
        rows = zip(batch.paths, batch.classes, batch.probabilities, strict=True)
        yield lines(
            [path, classes[label], *(FLOAT_FORMAT % value for value in (probabilities[label], *probabilities))]
            for path, label, probabilities in rows
        )


def _json(classes: Sequence[str], found: Iterable[Batch]) -> Iterator[str]:
    """Yield a JSON list of objects, one per line."""
    lead = "[\n"
    for batch in found:
        for path, label, probabilities in zip(batch.paths, batch.classes, batch.probabilities, strict=True):
            numbers = [float(FLOAT_FORMAT % value) for value in probabilities]
            shown = {
                "path": path,
                "label": classes[label],
                "confidence": numbers[label],
                "probabilities": dict(zip(classes, numbers, strict=True)),
            }
            yield lead + json.dumps(shown, ensure_ascii=False)
            lead = ",\n"
    yield "\n]\n"


FORMATS: dict[str, Callable[[Sequence[str], Iterable[Batch]], Iterator[str]]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
}


def lines(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines of CSV."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
