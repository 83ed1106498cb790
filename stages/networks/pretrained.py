"""The weights of a backbone: Keras's published files, a file of the user's own or of an earlier run, or random ones.

Keras knows the name, URL and hash of each published file and how to read it; only the download is done here
(`download.py`).
"""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stages.core.builders.families import SCRATCH
from stages.core.builders.hub import is_hub
from stages.core.builders.inputs import IMAGENET_MEAN
from stages.core.builders.source import is_local_file
from stages.core.errors import WeightsError
from stages.core.manifest import MANIFEST, PATHS, read_manifest
from stages.core.settings.backbones import Network
from stages.core.settings.weights import FetchParams
from stages.networks.architectures import build
from stages.networks.download import (
    Published,
    UnreachableError,
    algorithm,
    checksum,
    fetch,
    fetch_own,
    require_expected,
)
from stages.networks.origin import Origin
from stages.networks.weights_file import numbered
from stages.networks.weights_match import Found, assign, find

log = logging.getLogger(__name__)


def obtain(backbone: Network, params: FetchParams) -> tuple[keras.Model, Origin]:
    """Build `backbone` with its weights; return it with their origin.

    Raises WeightsError when a file is damaged or does not fit, or, with `if_unreachable: stop`, is unavailable.
    """
    if is_hub(backbone.builder):
        from stages.networks import hub  # Imports KerasHub.

        return hub.obtain(backbone)
    if backbone.weights not in {"imagenet", "random"}:
        return _from_file(backbone, params)
    if backbone.builder == SCRATCH:
        return build(backbone, None), Origin("none", "trained from scratch")
    if backbone.weights == "random":
        return random(backbone), Origin("random", "as set in params.yaml")
    try:
        return _from_keras(backbone, params)
    except UnreachableError as error:
        if params.if_unreachable == "stop":
            raise
        log.warning("%s: RANDOM WEIGHTS, as weights.if_unreachable says: %s", backbone.name, error.received)
        return random(backbone), Origin("random", error.received)


def random(backbone: Network) -> keras.Model:
    """Build `backbone` with random weights of Keras's own initialisers, except LayerScale, which is set to 1.

    ConvNeXt's LayerScale starts at 1e-6 (Liu et al. 2022, https://arxiv.org/abs/2201.03545) and is then trained:
    frozen at that value, it would turn off every block and leave a linear network.
    """
    network = build(backbone, None)
    for layer in network.layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(keras.ops.ones_like(layer.gamma))
    return network


def _from_file(backbone: Network, params: FetchParams) -> tuple[keras.Model, Origin]:
    """Build with the weights of a file of the user's own, or of a `model.keras` of an earlier run."""
    source = backbone.weights.replace("{backbone}", backbone.name)
    path = _located(source, backbone, params)
    digest = f"sha256:{checksum(path, 'sha256')}"
    require_expected(path, digest, backbone)
    network = build(backbone, None)
    found = find(path, network, backbone.builder)
    if backbone.family.module == "efficientnet" and _rescales_twice(found, path):
        network = _graph_for_published(backbone)
    assign(network, found)
    return network, _descent(source, path, digest)


def _located(source: str, backbone: Network, params: FetchParams) -> Path:
    if not is_local_file(source):
        return fetch_own(source, backbone.checksum, params)
    path = Path(source)
    if not path.is_file():
        raise WeightsError(
            f"weights '{path}' of backbone '{backbone.name}' is not a file",
            "imagenet, random, or a file that Keras wrote (.keras, .weights.h5, .h5)",
            "correct weights.source or the line of the backbone",
        )
    return path


def _rescales_twice(found: Found, path: Path) -> bool:
    """Return whether weights of an EfficientNet v1 were trained with the graph that Keras builds for published ones.

    That has one more Rescaling, without weights, behind its Normalization. Where the file lists its layers, they
    decide, but for published files: they are older than that layer. Without their order another Rescaling may be the
    user's own, before the network. Then, and without a list, a network that normalises by ImageNet's mean descends from
    published weights; one that began with random weights does not normalise.
    """
    if found.names is None:
        return _by_imagenet(found)
    kinds = [numbered(name)[0] for name in takewhile(lambda name: not name.startswith("stem_"), found.names)]
    if _rescales_normalised(kinds) if found.in_order else kinds.count("rescaling") > 1 and _by_imagenet(found):
        return True
    module: Any = importlib.import_module("keras.src.applications.efficientnet")
    return checksum(path, "md5") in {digest for digests in module.WEIGHTS_HASHES.values() for digest in digests}


def _rescales_normalised(kinds: list[str]) -> bool:
    """Return whether there is a Rescaling after the last Normalization; `kinds` are the layers before the stem."""
    after = list(takewhile(lambda kind: kind != "normalization", reversed(kinds)))
    return len(after) < len(kinds) and "rescaling" in after


def _by_imagenet(found: Found) -> bool:
    """Return whether a network normalises by ImageNet's mean."""
    means = [values[0] for place, values in found.values.items() if numbered(place[-1])[0] == "normalization"]
    return any(np.allclose(mean, IMAGENET_MEAN, atol=1e-3) for mean in means)


def _graph_for_published(backbone: Network) -> keras.Model:
    """Build the network as for `weights="imagenet"`, but load nothing."""
    loading = keras.Model.load_weights
    keras.Model.load_weights = lambda *_, **__: None
    try:
        with _transport(lambda fname, *_, **__: fname):
            return build(backbone, "imagenet")
    finally:
        keras.Model.load_weights = loading


def _descent(source: str, path: Path, digest: str) -> Origin:
    """Return the origin of the weights in a file: random ones stay random when an earlier run trained only a head."""
    if path.name != PATHS["keras"] or not path.with_name(MANIFEST).is_file():
        return Origin(source, "a file of your own; what it was trained on is unknown", path.name, digest)
    before = read_manifest(path.parent).weights["source"]
    if before == "random":
        return Origin("random", f"{source} started from random weights", path.name, digest)
    return Origin(source, f"an earlier run that started from: {before}", path.name, digest)


def _from_keras(backbone: Network, params: FetchParams) -> tuple[keras.Model, Origin]:
    """Build with `weights="imagenet"`, with our own download of the file that Keras requests."""
    fetched: list[tuple[Path, Published]] = []

    def get_file(fname: str, origin: str, file_hash: str | None = None, **_: Any) -> str:
        published = Published(fname, origin, file_hash)
        path = fetch(published, params)
        fetched.append((path, published))
        return str(path)

    with _transport(get_file):
        network = build(backbone, "imagenet")
    path, file = fetched[-1]
    digest = file.checksum or checksum(path, "sha256")
    return network, Origin("imagenet", "", file.name, f"{algorithm(digest)}:{digest}")


@contextmanager
def _transport(get_file: Callable[..., str]) -> Iterator[None]:
    """Make `keras.applications` fetch its files with `get_file(fname, origin, file_hash=...)`.

    Names and hashes are known only inside the builders, as arguments of their calls of `get_file`. The argument
    `weights="imagenet"` has to be kept: EfficientNet builds another graph for a path.
    """
    module: Any = importlib.import_module("keras.src.utils.file_utils")
    original = module.get_file
    module.get_file = get_file
    try:
        yield
    finally:
        module.get_file = original
