"""Output formats of predictions: a text table, CSV or JSON, written a batch at a time.

With the costs of an export there is a decision beside the most probable class: the class of least expected cost.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import IO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core.errors import one_line
from stages.core.files import FLOAT_FORMAT, inert
from stages.core.measure import cheapest
from stages.core.predictions import PREFIX
from stages.sources.listing import Reject


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


# By actual and by decided class, in the order of the probabilities; None where nothing is decided by cost.
Costs = NDArray[np.float64] | None


def _decisions(batch: Batch, classes: Sequence[str], costs: Costs) -> list[list[str]]:
    """Return the class that is decided for of each image, as a list of one; empty lists without costs."""
    if costs is None:
        return [[] for _ in batch.paths]
    return [[classes[place]] for place in cheapest(batch.probabilities.astype(np.float64), costs)]


def _table(classes: Sequence[str], found: Iterable[Batch], costs: Costs) -> Iterator[str]:
    """Yield a text table, a batch at a time; paths, of any length, come last."""
    names = [one_line(name) for name in classes]
    decision = [] if costs is None else ["decision"]
    width = max(map(len, ("label", *decision, *names)))
    yield f"{'label':<{width}}  confidence  {_padded(decision, width)}path\n"
    for batch in found:
        rows = zip(batch.classes, batch.confidences, _decisions(batch, names, costs), batch.paths, strict=True)
        yield "".join(
            f"{names[label]:<{width}}  {100 * value:8.1f} %  {_padded(decided, width)}{path}\n"
            for label, value, decided, path in rows
        )


def _padded(texts: Iterable[str], width: int) -> str:
    return "".join(f"{text:<{width}}  " for text in texts)


def _csv(classes: Sequence[str], found: Iterable[Batch], costs: Costs) -> Iterator[str]:
    decision = [] if costs is None else ["decision"]
    yield lines([["path", "label", "confidence", *decision, *(PREFIX + name for name in classes)]])
    for batch in found:
        rows = zip(batch.paths, batch.classes, _decisions(batch, classes, costs), batch.probabilities, strict=True)
        yield lines(
            [
                *(path, classes[label], FLOAT_FORMAT % probabilities[label], *decided),
                *(FLOAT_FORMAT % value for value in probabilities),
            ]
            for path, label, decided, probabilities in rows
        )


def _json(classes: Sequence[str], found: Iterable[Batch], costs: Costs) -> Iterator[str]:
    """Yield a JSON list of objects, one per line."""
    lead = "[\n"
    for batch in found:
        rows = zip(batch.paths, batch.classes, _decisions(batch, classes, costs), batch.probabilities, strict=True)
        for path, label, decided, probabilities in rows:
            numbers = [float(FLOAT_FORMAT % value) for value in probabilities]
            shown = {
                "path": path,
                "label": classes[label],
                "confidence": numbers[label],
                **({"decision": decided[0]} if decided else {}),
                "probabilities": dict(zip(classes, numbers, strict=True)),
            }
            yield lead + json.dumps(shown, ensure_ascii=False)
            lead = ",\n"
    yield "\n]\n"


FORMATS: dict[str, Callable[[Sequence[str], Iterable[Batch], Costs], Iterator[str]]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
}


def lines(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines of CSV, with an apostrophe before what a spreadsheet would take for a formula."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(inert, row) for row in rows)
    return text.getvalue()


class RejectWriter:
    """Writes rejects to a file, or to standard error; counts them and keeps the first one."""

    def __init__(self, file: IO[str] | None) -> None:
        self.count, self.first = 0, ""
        self._file = file
        if file:
            file.write(lines([["path", "reason"]]))

    def add(self, reject: Reject) -> None:
        """Write a reject."""
        self.count += 1
        self.first = self.first or f", such as '{reject.path}' ({reject.reason})"
        if self._file:
            self._file.write(lines([[reject.path, reject.reason]]))
        else:
            tqdm.write(f"left out: {reject.path}: {reject.reason}", file=sys.stderr)
