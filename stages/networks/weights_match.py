"""Putting the weights of a file into a network: layers are matched by their names, their numbers or their order."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import WeightsError
from stages.networks.architectures import leaves
from stages.networks.weights_file import StoredLayer, StoredNetwork, fault, layers_below, numbered, opened

# Layers of the file beside those of the network; None where the file has none.
Pairs = list[tuple[StoredLayer | None, StoredLayer]]


@dataclass(frozen=True)
class Found:
    """The weights of a network in a file: the arrays of each of its layers, by its place among Keras 3's groups.

    `names` are those of all layers of the network in the file, None where the file does not say; `in_order` says
    whether they have the network's order.
    """

    values: Mapping[tuple[str, ...], tuple[NDArray[Any], ...]]
    names: Sequence[str] | None
    in_order: bool


def find(path: Path, network: keras.Model, title: str) -> Found:
    """Return the weights in the file `path` that fit `network`, wherever in the file its graph is nested.

    Raises WeightsError, which calls the network `title`, when the file cannot be used or nothing in it fits.
    """
    with _own_weights(network) as own, opened(path) as stored, h5py.File(own) as file:
        wanted = _in_order(layers_below(file), network)
        pairings = [(each, max(_pairings(each, wanted), key=_agreeing)) for each in stored]
        fitting = {_datasets(pairs): (each, pairs) for each, pairs in pairings if _agreeing(pairs) == len(wanted)}
        if not fitting:
            raise _misfit(path, max((pairs for _, pairs in pairings), key=_agreeing), title)
        if len(fitting) > 1:
            raise fault(path, f"holds {len(fitting)} networks that fit {title}")
        each, pairs = next(iter(fitting.values()))
        return Found({ours.place: _values(path, theirs) for theirs, ours in pairs if theirs}, each.names, each.in_order)


def assign(network: keras.Model, found: Found) -> None:
    """Set the weights of `network` to those found for it, by Keras's own loading."""
    with _own_weights(network) as own:
        with h5py.File(own, "r+") as file:
            for layer in layers_below(file):
                for dataset, value in zip(layer.values, found.values[layer.place], strict=True):
                    dataset[...] = value
        network.load_weights(own)


@contextmanager
def _own_weights(network: keras.Model) -> Iterator[Path]:
    """Provide a temporary file of the weights of `network`, as Keras writes it: so places need not be known here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.weights.h5"
        network.save_weights(path)
        yield path


def _in_order(layers: Iterator[StoredLayer], network: keras.Model) -> list[StoredLayer]:
    """Return layers in the order in which the network has them, which is no order of their names."""
    order = {layer.name: number for number, layer in enumerate(leaves(network))}
    return sorted(layers, key=lambda layer: order.get(layer.name, len(order)))


def _pairings(stored: StoredNetwork, wanted: Sequence[StoredLayer]) -> Iterator[Pairs]:
    """Yield the ways to pair the layers of a file with those of a network, the surest first.

    By their names; by these or by their places but for the numbers that Keras appends to them, which count on from
    model to model; by their order, where the file has one.
    """
    for keys in (_names, _counted_names, _counted_places):
        theirs = dict(zip(keys(stored.layers), stored.layers, strict=True))
        if len(theirs) == len(stored.layers):
            yield [(theirs.get(key), layer) for key, layer in zip(keys(wanted), wanted, strict=True)]
    for first in range(max(len(stored.layers) - len(wanted), 0) + 1) if stored.in_order else ():
        run = stored.layers[first : first + len(wanted)]
        yield list(zip([*run, *[None] * (len(wanted) - len(run))], wanted, strict=True))


def _names(layers: Sequence[StoredLayer]) -> list[Any]:
    return [layer.name for layer in layers]


def _counted_names(layers: Sequence[StoredLayer]) -> list[Any]:
    return _counted([(layer.name,) for layer in layers])


def _counted_places(layers: Sequence[StoredLayer]) -> list[Any]:
    return _counted([layer.place for layer in layers])


def _counted(paths: Sequence[tuple[str, ...]]) -> list[Any]:
    """Return each path without its numbers, and its rank by these among those that are the same without."""
    split = [tuple(zip(*map(numbered, path), strict=True)) for path in paths]
    ranks: dict[Any, int] = {}
    found: dict[int, tuple[Any, int]] = {}
    for index in sorted(range(len(split)), key=lambda index: split[index][1]):
        bases = split[index][0]
        found[index] = (bases, ranks.setdefault(bases, 0))
        ranks[bases] += 1
    return [found[index] for index in range(len(split))]


def _agreeing(pairs: Pairs) -> int:
    """Return how many layers have the same shapes before the first that differs."""
    differing = (number for number, (theirs, ours) in enumerate(pairs) if not theirs or theirs.shapes != ours.shapes)
    return next(differing, len(pairs))


def _datasets(pairs: Pairs) -> tuple[str, ...]:
    return tuple(value.name for theirs, _ in pairs if theirs for value in theirs.values)


def _misfit(path: Path, pairs: Pairs, title: str) -> WeightsError:
    theirs, ours = pairs[_agreeing(pairs)]
    if theirs is None:
        what = f"has no layer for '{ours.name}', {_shapes(ours)}, of {title}"
    else:
        what = f"has {_shapes(theirs)} in its layer '{theirs.name}' where {title} has {_shapes(ours)} in '{ours.name}'"
    return WeightsError(
        f"'{path}' {what}",
        f"weights of {title}, with or without its classifier",
        "set builder, arguments or head.pooling of the backbone's line to those of the file, or name another file",
    )


def _shapes(layer: StoredLayer) -> str:
    return " ".join(map(str, layer.shapes))


def _values(path: Path, layer: StoredLayer) -> tuple[NDArray[Any], ...]:
    """Return the arrays of a layer. Raise WeightsError when they are no weights to go on from."""
    found = tuple(np.asarray(value[...]) for value in layer.values)
    for value in found:
        if value.dtype.kind not in "fiu" or (value.dtype.kind != "f" and value.ndim):
            raise fault(path, f"has weights of type {value.dtype} in its layer '{layer.name}'", "save it in float32")
        if not np.isfinite(value).all():
            raise fault(path, f"has weights that are not finite in its layer '{layer.name}'", "name another file")
    return found
