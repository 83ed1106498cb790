import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import keras
import numpy as np
import openvino
import pytest

from stages.core.errors import EngineError
from stages.core.files import read_json
from stages.core.head import Head, Layer
from stages.core.settings.backbones import Network
from stages.core.settings.features import EngineParams
from stages.networks import engine, extraction, keras_engine
from stages.networks.architectures import build, outputs, top
from stages.networks.engine import FROZEN, Choice, choose, compile_openvino, flops, join, write_architecture
from stages.networks.extraction import forward, write_features
from stages.networks.origin import Origin
from stages.weights import write
from tests.support.features import ROOT


def params(kind: str = "auto", precision: str = "auto") -> EngineParams:
    return EngineParams(engine=kind, precision=precision, batch_size=8)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    """Return the output of stage `weights` for a small network, and the network."""
    folder, network = tmp_path_factory.mktemp("weights"), build(small(), None)
    write(folder, network, small(), Origin("random"))
    return folder, network


def small(filters: tuple[int, ...] = (8, 16)) -> Network:
    return Network(
        name="small",
        builder="scratch",
        input_size=32,
        pooling="average",
        weights="random",
        checksum=None,
        inputs="raw",
        arguments={"filters": filters},
    )


def drawn_head(width: int, units: tuple[int, ...], activation: str = "relu", *, normalised: bool = True) -> Head:
    """Return a head with constant weights."""
    widths = (width, *units)
    layers = [
        Layer(np.full(shape, 0.01, np.float32), np.full(shape[1], 0.01, np.float32), activation)
        for shape in pairwise(widths)
    ]
    moments = (np.full(width, 0.01, np.float32), np.full(width, 0.01, np.float32))
    return Head((*layers[:-1], replace(layers[-1], activation="linear")), moments if normalised else None)


def test_without_a_gpu_openvino_computes_in_what_the_processor_has(monkeypatch) -> None:
    monkeypatch.setattr(engine, "has_gpu", lambda: False)
    chosen = choose(params(), 3)
    assert (chosen.engine, chosen.threads) == ("openvino", 3)
    assert chosen.precision in {"float32", "bfloat16"}


@pytest.mark.parametrize(("faster", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_bfloat16_is_chosen_where_the_processor_is_faster_in_it(monkeypatch, faster, precision) -> None:
    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "BF16", "FP16"]

    monkeypatch.setattr(engine, "has_gpu", lambda: False)
    monkeypatch.setattr(engine, "faster_in_bfloat16", lambda: faster)
    monkeypatch.setattr("openvino.Core", Core)
    assert choose(params(), 1).precision == precision
    assert choose(params("openvino", "bfloat16"), 1).precision == "bfloat16"


@pytest.mark.parametrize(
    ("vendor", "flags", "faster"),
    [
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16 amx_tile", True),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx2", False),
    ],
)
def test_tiles_or_amds_dot_products_make_bfloat16_fast(tmp_path, vendor, flags, faster) -> None:
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
    assert engine.faster_in_bfloat16(tmp_path / "cpuinfo") is faster
    assert not engine.faster_in_bfloat16(tmp_path / "missing")


def test_with_a_gpu_tensorflow_computes_in_mixed_precision(monkeypatch) -> None:
    monkeypatch.setattr(engine, "has_gpu", lambda: True)
    assert choose(params(), 1) == Choice("tensorflow", "bfloat16", 1)


def test_openvino_tells_its_maker_nothing() -> None:
    from openvino.tools.ovc import convert_impl, telemetry_utils

    assert {convert_impl.tm.__name__, telemetry_utils.tm.__name__} == {"openvino.tools.ovc.telemetry_stub"}


def test_large_and_small_weights_are_converted_and_are_then_no_longer_those_of_the_network() -> None:
    keras.utils.set_random_seed(2)
    image = keras.Input((8, 8, 4))
    few, many = (keras.layers.Dense(width, name=f"dense_{width}") for width in (8, 4000))
    network = keras.Model(image, many(few(image)))
    assert few.kernel.value.shape.num_elements() < keras_engine._LARGE < many.kernel.value.shape.num_elements()
    batch = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    expected = np.asarray(network(batch))
    converted = keras_engine.convert(network.input, {"features": network.output})
    network.set_weights([np.zeros_like(value) for value in network.get_weights()])
    found = compile_openvino(converted, Choice("openvino", "float32", 1))(batch)["features"]
    assert relative(found, expected) < 1e-4


def test_a_precision_that_the_processor_lacks_is_one_line(monkeypatch) -> None:
    monkeypatch.setattr(engine, "_offered", lambda _: ["float32"])
    with pytest.raises(EngineError, match=r"features.precision = 'bfloat16'; expected .*\(float32\); choose one"):
        choose(params("openvino", "bfloat16"), 1)
    assert choose(params("openvino", "float32"), 1).precision == "float32"


@pytest.mark.parametrize(
    ("kind", "precision", "bound"),
    [
        ("openvino", "float32", 1e-4),
        ("openvino", "bfloat16", 2e-2),
        ("tensorflow", "float32", 1e-6),
        ("tensorflow", "bfloat16", 2e-2),
    ],
)
def test_every_engine_gives_every_output(
    weights_folder, random_images, kind: str, precision: str, bound: float
) -> None:
    folder, network = weights_folder
    tensors = outputs(network)
    assert [*tensors] == ["features", "map", "block_1", "block_2"]
    batch = random_images(3, 32)
    expected = keras.Model(network.input, tensors)(batch.astype("float32"))
    found = forward(folder, Choice(kind, precision, 2), tuple(tensors))(batch)
    for name in tensors:
        assert found[name].dtype == np.float32
        assert relative(found[name], np.asarray(expected[name])) < bound


@pytest.mark.parametrize("kind", ["openvino", "tensorflow"])
@pytest.mark.parametrize("name", ["features", "map", "block_2"])
def test_one_output_alone_is_what_it_is_beside_the_others(weights_folder, random_images, kind: str, name: str) -> None:
    folder, _ = weights_folder
    batch, choice = random_images(3, 32), Choice(kind, "float32", 2)
    (alone,) = forward(folder, choice, (name,))(batch).items()
    assert alone[0] == name
    together = forward(folder, choice, ("block_1", "features", "block_2", "map"))(batch)
    np.testing.assert_allclose(alone[1], together[name], rtol=1e-5, atol=1e-5)


def test_outputs_that_are_not_wanted_are_not_computed(weights_folder) -> None:
    folder, _ = weights_folder
    whole = openvino.Core().read_model(str(folder / FROZEN))
    used: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "compile_openvino", lambda model, _: used.append(model))
        forward(folder, Choice("openvino", "float32", 1), ("block_2",))
    kinds = [[node.get_type_name() for node in model.get_ordered_ops()] for model in (whole, used[0])]
    assert [kind.count("Convolution") for kind in kinds] == [2, 0]


def test_a_network_that_is_trained_from_nothing_has_no_frozen_part(tmp_path) -> None:
    network = build(small(), None)
    write(tmp_path, network, small(), Origin("none"))
    assert {path.name for path in tmp_path.iterdir()} == {"backbone.keras", "backbone.json"}
    facts = read_json(tmp_path / "backbone.json")
    assert (facts["frozen"], facts["blocks"]) == (False, 2)


def test_what_later_stages_know_of_a_network_is_what_it_is(weights_folder) -> None:
    folder, network = weights_folder
    assert read_json(folder / "backbone.json") == {
        "backbone": "small",
        "builder": "scratch",
        "arguments": {"filters": [8, 16]},
        "input_size": 32,
        "pooling": "average",
        "frozen": True,
        "blocks": 2,
        "map": {"shape": [16, 16, 16], "tail": [{"kind": "max_pooling", "pool": [2, 2]}, {"kind": "average"}]},
        "width": 16,
        "parameters": network.count_params(),
        "inputs": "raw",
        "normalization": None,
        "weights": {"source": "random", "reason": "", "file": "", "checksum": "", "licence": ""},
    }


@pytest.mark.parametrize("start", ["features", "block_1", "image"])
def test_the_architecture_of_a_classifier_on_the_frozen_network_is_the_whole_network(
    weights_folder, random_images, tmp_path, start: str
) -> None:
    folder, network = weights_folder
    upper = None if start == "features" else part_above(network, start)
    write_architecture(tmp_path / "architecture", drawn_head(16, (5, 3)), 1234, start, upper)
    whole = join(folder / FROZEN, tmp_path / "architecture")
    single = 32 * 32 * 8 * 27 + 16 * 16 * 16 * 72 + 16 * 5 + 5 * 3
    assert flops(whole, 32) == 2 * single
    found = compile_openvino(whole, Choice("openvino", "float32", 1))(random_images(2, 32).astype("float32"))
    assert found["probabilities"].shape == (2, 3)
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, rtol=1e-5)


def part_above(network: keras.Model, start: str) -> object:
    upper = top(network, start)
    return keras_engine.convert(upper.input, {"features": upper.output})


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "silu", "gelu", "elu", "selu"])
def test_every_head_has_its_operations(weights_folder, random_images, tmp_path, activation: str) -> None:
    folder, _ = weights_folder
    head = drawn_head(16, (6, 5, 3), activation, normalised=activation != "tanh")
    write_architecture(tmp_path, head, 1, "features", None)
    network = join(folder / FROZEN, tmp_path)
    kinds = [node.get_type_name() for node in network.get_ordered_ops()]
    assert kinds.count("MatMul") == 3
    assert kinds.count("Divide") + kinds.count("Subtract") == (2 if head.moments else 0)
    named = {"leaky_relu": "PRelu", "silu": "Swish", "relu": "Relu"}.get(activation, activation.capitalize())
    assert kinds.count(named) == 2 + (activation == "relu") * 2
    batch = random_images(2, 32)
    found = compile_openvino(network, Choice("openvino", "float32", 1))(batch.astype("float32"))["probabilities"]
    np.testing.assert_allclose(found, np.full((2, 3), 1 / 3), rtol=1e-3)


def test_a_linear_head_has_no_activation_and_its_architecture_imports_no_engine(tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np; from stages.core.head import Head, Layer;"
        "from stages.networks.engine import write_architecture;"
        "head = Head((Layer(np.ones((4, 3), np.float32), np.ones(3, np.float32)),));"
        "write_architecture(Path(sys.argv[1]), head, 1_234_567, 'features', None);"
        "assert not {'openvino', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    assert read_json(tmp_path / "architecture.json") == {
        "parameters": 1_234_567,
        "size_mb": 4.94,
        "input": "features",
        "head": {"width": 4, "units": [3], "activation": "linear", "normalised": False},
    }


def test_the_architecture_of_a_classifier_is_small_and_the_same_whatever_its_weights(tmp_path) -> None:
    def drawn(seed: int) -> dict[str, bytes]:
        keras.utils.set_random_seed(seed)
        network = build(small((32, 32)), None)
        folder = tmp_path / str(seed)
        write_architecture(folder, drawn_head(32, (3,)), 5, "block_1", part_above(network, "block_1"))
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    found = drawn(1)
    assert found == drawn(2)
    assert {*found} == {"architecture.json", "top.xml", "top.bin"}
    assert len(found["top.bin"]) < 32 * 32


def test_operations_are_counted_by_hand() -> None:
    image = keras.Input((8, 8, 3))
    tensor = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(image)
    tensor = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(tensor)
    tensor = keras.layers.Dense(5, use_bias=False)(keras.layers.Flatten()(tensor))
    network = keras_engine.convert(image, {"probabilities": tensor})
    multiplications = 8 * 8 * 4 * (3 * 3 * 3) + 8 * 8 * 4 * (3 * 3) + 8 * 8 * 4 * 5
    assert flops(network, 8) == 2 * multiplications


def test_no_activation_becomes_an_output_of_its_own() -> None:
    image = keras.Input((32, 32, 3))
    network = keras.applications.EfficientNetB0(weights=None, include_top=False, pooling="avg", input_tensor=image)
    converted = keras_engine.convert(image, {"features": network.output})
    assert [output.get_any_name() for output in converted.outputs] == ["features"]


def test_features_are_written_in_the_order_of_the_images(weights_folder, random_images, tmp_path) -> None:
    folder, network = weights_folder
    images = random_images(5, 32)
    computed = forward(folder, Choice("openvino", "float32", 1), ("features",))
    write_features(tmp_path / "some.npy", computed, (images[start : start + 2] for start in (0, 2, 4)), (5, 16))
    found = np.load(tmp_path / "some.npy")
    assert found.dtype == np.float32
    assert relative(found, np.asarray(network(images.astype("float32")))) < 1e-4


def test_features_that_overflow_are_one_line(tmp_path) -> None:
    def overflowing(batch: np.ndarray) -> dict[str, np.ndarray]:
        return {"features": np.full((len(batch), 2), np.inf, np.float32)}

    with pytest.raises(EngineError, match=r"features that are not finite.*set features.precision"):
        write_features(tmp_path / "some.npy", overflowing, [np.zeros((2, 4, 4, 3), np.uint8)], (2, 2))


def test_a_released_network_holds_no_memory_even_where_something_holds_its_variables() -> None:
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    network.compile("adam", "mse")
    network.fit(np.zeros((2, 4)), np.zeros((2, 3)), verbose=0)
    variables = [*network.variables, *network.optimizer.variables]
    assert sum(int(np.size(variable.value.numpy())) for variable in variables) > 3 * 15
    keras_engine.free_memory(network)
    assert {np.shape(variable.value.numpy()) for variable in variables} == {()}
