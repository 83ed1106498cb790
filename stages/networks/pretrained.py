"""The weights of a backbone: Keras's published files, those of an earlier run, or random ones.

Keras knows the name, URL and hash of each published file and how to read it; only the download is done here
(`download.py`).
"""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from stages.core.errors import WeightsError
from stages.core.manifest import MANIFEST, read_manifest
from stages.core.settings.backbones import SCRATCH, Network
from stages.core.settings.hub import is_hub
from stages.core.settings.weights import WeightsParams
from stages.networks.architectures import build
from stages.networks.download import Published, UnreachableError, algorithm, checksum, fetch
from stages.networks.keras_engine import load

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where weights came from: "imagenet", "random", "none" (nothing to load), a preset or a file of an earlier run.

    `licence` is that of the weights, where they state one.
    """

    source: str
    reason: str = ""
    file: str = ""
    checksum: str = ""
    licence: str = ""


def obtain(backbone: Network, params: WeightsParams) -> tuple[keras.Model, Origin]:
    """Build `backbone` with its weights; return it with their origin.

    Raises WeightsError when a file is damaged or does not fit, or, with `if_unreachable: stop`, is unavailable.
    """
    if is_hub(backbone.builder):
        from stages.networks import hub  # Imports KerasHub.

        return hub.obtain(backbone)
    if backbone.weights not in {"imagenet", "random"}:
        return _from_model(backbone)
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


def _from_model(backbone: Network) -> tuple[keras.Model, Origin]:
    """Load the weights of the backbone inside a `model.keras` that stage export of an earlier run wrote."""
    path = Path(backbone.weights.replace("{backbone}", backbone.name))
    if not path.is_file():
        raise WeightsError(
            f"weights.source '{path}' is not a file",
            "imagenet, random, or a model.keras",
            "correct weights.source or the line of the backbone",
        )
    try:
        inner = load(path).get_layer("backbone")
        network = _same_graph(build(backbone, None), inner)
    except Exception as error:
        # Keras raises various errors here: for a damaged archive, another architecture, another builder.
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"'{path}' does not fit backbone '{backbone.name}' ({detail})",
            f"a model.keras that stage export wrote, with a {backbone.builder} inside",
            "choose the file of the same backbone",
        ) from error
    return network, _descent(path)


def _same_graph(network: keras.Model, inner: keras.Model) -> keras.Model:
    """Return `network` with the weights of `inner`, or `inner` itself where its graph differs.

    EfficientNet v1 builds one more Rescaling for published weights: that layer has no weights, so they load into
    either graph but work in one only. Raises ValueError when `inner` cannot replace `network`.
    """
    network.set_weights(inner.get_weights())
    if _kinds(network) == _kinds(inner):
        return network
    if (network.input.shape, _kinds(network)[-1]) != (inner.input.shape, _kinds(inner)[-1]):
        raise ValueError("its graph differs; the same input_size and pooling are needed")
    inner.trainable = True
    return inner


def _kinds(network: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in network.layers]


def _descent(path: Path) -> Origin:
    """Return the origin of the weights in a `model.keras`: random ones stay random when only a head is trained."""
    digest = f"sha256:{checksum(path, 'sha256')}"
    if not path.with_name(MANIFEST).is_file():
        return Origin(str(path), "an earlier run; the weights that it started from are unknown", path.name, digest)
    before = read_manifest(path.parent).weights["source"]
    if before == "random":
        return Origin("random", f"{path} started from random weights", path.name, digest)
    return Origin(str(path), f"an earlier run that started from: {before}", path.name, digest)


def _from_keras(backbone: Network, params: WeightsParams) -> tuple[keras.Model, Origin]:
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
