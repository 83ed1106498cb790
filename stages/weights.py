"""Stage `weights@B`: get a backbone's weights, and convert its frozen part for the inference engine.

Writes `data/weights/B/`: `backbone.keras` (raw pictures in, one feature vector out), `frozen.xml` and
`.bin` (the same up to where phase 2 cuts, for OpenVINO), `backbone.json` (what it is, where the weights
came from). Whatever changes none of these, such as a head's dropout, recomputes no features.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import run
from stages.files import replacing_folder, write_json
from stages.models.backbones import Backbone, resolve
from stages.models.download import WeightsParams
from stages.params import load, named_backbone, read, seed, threads

if TYPE_CHECKING:
    import keras

    from stages.models.weights import Origin

log = logging.getLogger(__name__)


def write(folder: Path, network: "keras.Model", backbone: Backbone, origin: "Origin") -> None:
    """Write the network, its frozen part and what it is into `folder`."""
    from stages.models import keras_engine
    from stages.models.engine import FROZEN
    from stages.models.networks import cut

    bottom = cut(network, backbone.unfreeze.blocks, backbone.name)
    keras_engine.save(network, folder / keras_engine.BACKBONE)
    if bottom is not network.input:
        outputs = {"features": network.output} | ({} if bottom is None else {"cut": bottom})
        keras_engine.save_openvino(keras_engine.convert(network.input, outputs), folder / FROZEN)
    write_json(folder / "backbone.json", _facts(network, backbone, origin, bottom))


def _facts(network: "keras.Model", backbone: Backbone, origin: "Origin", bottom: Any) -> dict[str, Any]:
    """Return what later stages need to know of the network without loading it."""
    return {
        "backbone": backbone.name,
        "builder": backbone.builder,
        "input_size": backbone.input_size,
        "pooling": backbone.head.pooling,
        "unfrozen_blocks": backbone.unfreeze.blocks,
        "frozen": bottom is not network.input,
        # The name of the operation whose output phase 2 starts from.
        "cut": None if bottom is None or bottom is network.input else _producer(network, bottom),
        "cut_shape": None if bottom is None else list(bottom.shape[1:]),
        "width": network.output.shape[-1],
        "parameters": network.count_params(),
        "weights": vars(origin),
    }


def _producer(network: "keras.Model", tensor: Any) -> str:
    return str(next(operation.name for operation in network.operations if operation.output is tensor))


def main() -> None:
    """Write `data/weights/B/` for the backbone named on the command line."""
    backbone = resolve(named_backbone(), read())
    from stages.models.keras_engine import repeatable
    from stages.models.weights import obtain

    repeatable(seed(), threads())
    network, origin = obtain(backbone, load(WeightsParams, "weights"))
    with replacing_folder(Path("data/weights") / backbone.name) as folder:
        write(folder, network, backbone, origin)
    log.info("%s: %s weights, %d parameters", backbone.name, origin.source, network.count_params())


if __name__ == "__main__":
    run(main)
