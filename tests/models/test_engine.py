import keras
import numpy as np
import pytest

from stages.errors import EngineError
from stages.features import extract
from stages.models import engine, keras_engine
from stages.models.engine import FROZEN, OUTLINE, Choice, EngineParams, choose, compile_openvino, flops, join, outline
from stages.models.extraction import forward
from stages.models.networks import build, cut
from stages.models.weights import Origin
from stages.weights import write


def params(kind: str = "auto", precision: str = "auto") -> EngineParams:
    return EngineParams(engine=kind, precision=precision, batch_size=8, max_cache_gb=1.0)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture
def weights_folder(declare, tmp_path):
    """Return the output of stage `weights` for a small network whose top block phase 2 trains, and the network."""
    backbone = declare("scratch", sizes=(32,), weights="random", unfreeze={"blocks": 1}, head={"pooling": "average"})
    network = build(backbone, None)
    write(tmp_path, network, backbone, Origin("random"))
    return tmp_path, network


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
def test_every_engine_gives_the_features_and_the_activations_below_the_cut(
    weights_folder, pictures, kind: str, precision: str, bound: float
) -> None:
    folder, network = weights_folder
    below = keras.Model(network.input, [network.output, cut(network, 1, "scratch")])
    batch = pictures(3, 32)
    expected = below.predict(batch.astype("float32"), verbose=0)
    found = forward(folder, Choice(kind, precision, 2))(batch)
    assert found["features"].dtype == found["cut"].dtype == np.float32
    assert relative(found["features"], expected[0]) < bound
    assert relative(found["cut"], expected[1]) < bound


@pytest.mark.parametrize("kind", ["openvino", "tensorflow"])
@pytest.mark.parametrize("name", ["features", "cut"])
def test_one_output_alone_is_what_it_is_beside_the_other(weights_folder, pictures, kind: str, name: str) -> None:
    folder, _ = weights_folder
    batch, choice = pictures(3, 32), Choice(kind, "float32", 2)
    (alone,) = forward(folder, choice, name)(batch).items()
    assert alone[0] == name
    np.testing.assert_allclose(alone[1], forward(folder, choice)(batch)[name], rtol=1e-5)


def test_frozen_and_trained_part_joined_are_the_whole_network(weights_folder, pictures, tmp_path) -> None:
    folder, network = weights_folder
    bottom = cut(network, 1, "scratch")
    keras_engine.save_openvino(
        keras_engine.convert(bottom, {"probabilities": network.output}), tmp_path / "trained.xml"
    )
    batch = pictures(2, 32).astype("float32")
    whole = compile_openvino(join(folder / FROZEN, tmp_path / "trained.xml"), Choice("openvino", "float32", 1))
    assert relative(whole(batch)["probabilities"], network.predict(batch, verbose=0)) < 1e-4


def test_the_outline_of_a_network_is_small_and_the_same_whatever_its_weights(tmp_path) -> None:
    def drawn(seed: int) -> tuple[bytes, bytes]:
        keras.utils.set_random_seed(seed)
        features = keras.Input((64,), name="features")
        head = keras.Model(features, keras.layers.Dense(32, bias_initializer="normal", name="dense")(features))
        model = outline(keras_engine.convert(head.input, {"probabilities": head.output}))
        keras_engine.save_openvino(model, tmp_path / OUTLINE)
        return (tmp_path / OUTLINE).read_bytes(), (tmp_path / OUTLINE).with_suffix(".bin").read_bytes()

    assert drawn(1) == drawn(2)
    assert len(drawn(1)[1]) < 64 * 32
    whole = join(None, tmp_path / OUTLINE)
    found = compile_openvino(whole, Choice("openvino", "float32", 1))(np.ones((3, 64), np.float32))
    np.testing.assert_allclose(found["probabilities"], np.full((3, 32), 65 * 0.01), rtol=1e-5)


def test_operations_are_counted_by_hand(tmp_path) -> None:
    picture = keras.Input((8, 8, 3))
    tensor = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(picture)
    tensor = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(tensor)
    tensor = keras.layers.Dense(5, use_bias=False)(keras.layers.Flatten()(tensor))
    keras_engine.save_openvino(keras_engine.convert(picture, {"probabilities": tensor}), tmp_path / "net.xml")
    multiplications = 8 * 8 * 4 * (3 * 3 * 3) + 8 * 8 * 4 * (3 * 3) + 8 * 8 * 4 * 5
    assert flops(join(None, tmp_path / "net.xml"), 8) == 2 * multiplications


def test_no_activation_becomes_an_output_of_its_own(declare) -> None:
    network = build(declare("efficientnet_b0", sizes=(32,)), None)
    converted = keras_engine.convert(network.input, {"features": network.output})
    assert [output.get_any_name() for output in converted.outputs] == ["features"]


def test_features_that_overflow_are_one_line(tmp_path) -> None:
    np.save(tmp_path / "pictures.npy", np.zeros((2, 4, 4, 3), dtype=np.uint8))
    with pytest.raises(EngineError, match=r"features that are not finite numbers.*set features.precision"):
        extract(
            tmp_path / "pictures.npy", tmp_path / "out", lambda batch: {"features": np.full((len(batch), 2), np.inf)}, 2
        )


def test_a_released_network_holds_no_memory_even_where_something_holds_its_variables() -> None:
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    network.compile("adam", "mse")
    network.fit(np.zeros((2, 4)), np.zeros((2, 3)), verbose=0)
    variables = [*network.variables, *network.optimizer.variables]
    assert sum(int(np.size(variable.value.numpy())) for variable in variables) > 3 * 15
    keras_engine.release(network)
    assert {np.shape(variable.value.numpy()) for variable in variables} == {()}
