"""Stage `weights@B`: obtain a backbone's weights, and convert the network for the inference engine.

Writes `data/weights/B/`: `backbone.keras` (raw images in, one feature vector out), `frozen.xml` and `.bin` (the same
for OpenVINO, with the outputs of `architectures.outputs`; not for a network that is trained from scratch) and
`backbone.json` (its properties, and the origin of the weights). Of an ONNX file there is `backbone.onnx` in place of
`backbone.keras`, and Keras is not started.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.builders import hub as hub_settings
from stages.core.builders.onnx_files import ONNX
from stages.core.errors import WeightsError, run
from stages.core.files import replacing_folder, write_json
from stages.core.params import named_backbone
from stages.core.settings.backbones import Network
from stages.core.settings.recipes import WeightsRecipe, read_recipe

if TYPE_CHECKING:
    import keras

    from stages.networks.origin import Origin

log = logging.getLogger(__name__)


def write(folder: Path, network: "keras.Model", backbone: Network, origin: "Origin") -> None:
    """Write the network, its conversion for the inference engine, and its properties to `folder`."""
    from stages.networks import architectures, engine, keras_engine

    outputs = architectures.outputs(network)
    keras_engine.save(network, folder / keras_engine.BACKBONE)
    if _is_pretrained(origin):
        # Nothing in the conversion can be counted; that of a large network takes a minute.
        log.info("%s: converting %d layers for the inference engine", backbone.name, len(network.layers))
        engine.save(_converted(network, outputs, backbone), folder / engine.FROZEN)
    write_json(folder / "backbone.json", _facts(network, outputs, backbone, origin))


def _converted(network: "keras.Model", outputs: "dict[str, keras.KerasTensor]", backbone: Network) -> Any:
    """Return the network for the inference engine."""
    from stages.networks import keras_engine

    if hub_settings.is_hub(backbone.builder):
        from stages.networks import hub  # Imports KerasHub.

        return hub.converted(network, outputs, backbone.name)
    return keras_engine.convert(network.input, outputs)


def _is_pretrained(origin: "Origin") -> bool:
    """Return whether the network is used frozen; one that is trained from scratch is not."""
    return origin.source != "none"


def _facts(
    network: "keras.Model", outputs: "dict[str, keras.KerasTensor]", backbone: Network, origin: "Origin"
) -> dict[str, Any]:
    """Return the properties of the network that later stages need without loading it."""
    from stages.networks.architectures import normalization, tail

    shown = outputs.get("map")
    learnt = origin.source not in {"none", "random"}
    return _declared(backbone, origin) | {
        "frozen": _is_pretrained(origin),
        "blocks": sum(name.startswith("block_") for name in outputs),
        "map": None if shown is None else {"shape": list(shown.shape[1:]), "tail": tail(network)},
        "width": network.output.shape[-1],
        "parameters": network.count_params(),
        "normalization": normalization(network) if learnt else None,
    }


def _declared(backbone: Network, origin: "Origin") -> dict[str, Any]:
    """Return the properties that a network's line and the origin of its weights say."""
    return {
        "backbone": backbone.name,
        "builder": backbone.builder,
        "arguments": backbone.arguments,
        "input_size": backbone.input_size,
        "pooling": backbone.pooling,
        "inputs": backbone.inputs if isinstance(backbone.inputs, str) else backbone.inputs.model_dump(mode="json"),
        "weights": vars(origin),
    }


def _require_unchanged(origin: "Origin", place: Path | None, digest: str | None) -> None:
    """Raise WeightsError when weights are not those that stage check saw, by which DVC knows them.

    `place` is the folder that a preset of KerasHub was read from.
    """
    found = hub_settings.digest(place) if place else origin.checksum
    if digest not in (None, found):
        raise WeightsError(
            f"'{place or origin.file}' has {found}", f"{digest}, as stage check found it", "run 'dvc repro' again"
        )


def _write_keras(recipe: WeightsRecipe, folder: Path) -> None:
    backbone = recipe.network
    from stages.networks.keras_engine import make_deterministic
    from stages.networks.pretrained import obtain

    make_deterministic(recipe.seed, recipe.threads)
    log.info("%s: building %s for images of %d pixels", backbone.name, backbone.builder, backbone.input_size)
    network, origin = obtain(backbone, recipe.weights)
    _require_unchanged(origin, hub_settings.folder(backbone.builder, backbone.weights), recipe.digest)
    write(folder, network, backbone, origin)
    log.info("%s: %s weights, %d parameters", backbone.name, origin.source, network.count_params())


def write_onnx(recipe: WeightsRecipe, folder: Path) -> None:
    """Write the network in an ONNX file, its conversion for the inference engine, and its properties to `folder`."""
    from stages.networks import engine, onnx_file

    backbone = recipe.network
    log.info("%s: reading %s for images of %d pixels", backbone.name, backbone.weights, backbone.input_size)
    network, origin = onnx_file.obtain(backbone, recipe.weights)
    _require_unchanged(origin, None, recipe.digest)
    onnx_file.save(network.model, folder / onnx_file.BACKBONE)
    engine.save(network.converted, folder / engine.FROZEN)
    facts = {"frozen": True, "blocks": 0} | network.facts
    write_json(folder / "backbone.json", _declared(backbone, origin) | facts)
    log.info("%s: weights of %s, %d parameters", backbone.name, origin.file, facts["parameters"])


def main() -> None:
    """Write `data/weights/B/` for the backbone named on the command line."""
    recipe = read_recipe(WeightsRecipe, named_backbone())
    with replacing_folder(Path("data/weights") / recipe.network.name) as folder:
        (write_onnx if recipe.network.builder == ONNX else _write_keras)(recipe, folder)


if __name__ == "__main__":
    run(main)
