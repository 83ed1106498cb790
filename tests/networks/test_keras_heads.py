"""Heads in Keras: their layers, the way to arrays and back, and the optimiser and schedule that train them."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from stages.core.head import Head as ArrayHead
from stages.core.head import Layer
from stages.core.settings.finetune import Optimizer, Schedule
from stages.networks import keras_heads


def dense_layers(head: keras.Model) -> list[keras.layers.Dense]:
    return [layer for layer in head.layers if isinstance(layer, keras.layers.Dense)]


def test_the_head_of_the_course_for_vgg16(declare) -> None:
    head = keras_heads.build(declare("vgg16", head={"units": [512], "dropout": 0.5, "l2": 0.0}).head, 25088, 5)
    assert [type(layer).__name__ for layer in head.layers] == ["InputLayer", "Dense", "Dropout", "Dense"]
    assert [(layer.units, layer.activation.__name__) for layer in dense_layers(head)] == [(512, "relu"), (5, "softmax")]
    assert head.get_layer("dropout_1").rate == 0.5


@pytest.mark.parametrize("units", [[], [8], [16, 8]])
def test_units_give_the_dense_layers(declare, units: list[int]) -> None:
    head = keras_heads.build(declare("vgg16", head={"units": units}).head, 4, 3)
    assert [layer.units for layer in dense_layers(head)] == [*units, 3]


def test_no_dropout_is_no_layer(declare) -> None:
    head = keras_heads.build(declare("vgg16", head={"units": [8], "dropout": 0.0}).head, 4, 3)
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in head.layers)


def test_dropout_drops_in_training_alone(declare) -> None:
    head = keras_heads.build(declare("vgg16", head={"units": [64], "dropout": 0.9}).head, 4, 3)
    batch = np.ones((1, 4), dtype="float32")
    assert not np.allclose(head(batch, training=True), head(batch, training=False))
    np.testing.assert_array_equal(head(batch, training=False), head(batch, training=False))


def test_l2_adds_its_penalty_to_the_loss(declare) -> None:
    head = keras_heads.build(declare("vgg16", head={"units": [8], "l2": 0.5}).head, 4, 3)
    expected = 0.5 * np.square(head.get_layer("dense_1").kernel.numpy()).sum()
    assert float(head.losses[0]) == pytest.approx(expected, rel=1e-5)
    assert not keras_heads.build(declare("vgg16", head={"units": [8], "l2": 0.0}).head, 4, 3).losses


def test_the_activation_is_the_one_named(declare) -> None:
    head = keras_heads.build(declare("vgg16", head={"units": [8], "activation": "gelu"}).head, 4, 3)
    assert head.get_layer("dense_1").activation is keras.activations.gelu


def arrays(scale: float, *units: int) -> ArrayHead:
    """Return a head of random values for features of a mean and a deviation around `scale`."""
    draw, widths = np.random.default_rng(0), (6, *units, 2)
    layers = [
        Layer(*(draw.normal(0, 1, shape).astype("float32") for shape in ((width, wide), wide)), "relu")
        for width, wide in pairwise(widths)
    ]
    moments = tuple(draw.uniform(1, 3, 6).astype("float32") * np.float32(scale) for _ in range(2))
    return ArrayHead((*layers[:-1], Layer(layers[-1].kernel, layers[-1].bias)), moments)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e6])
@pytest.mark.parametrize("units", [(), (5, 4)])
def test_a_head_of_arrays_is_one_in_keras_and_arrays_again(scale: float, units: tuple[int, ...]) -> None:
    expected = arrays(scale, *units)
    found = keras_heads.joined(expected)
    features = (np.random.default_rng(1).normal(2, 2, (50, 6)) * scale).astype("float32")
    np.testing.assert_allclose(found(features), expected.probabilities(features), atol=1e-5)
    again = keras_heads.arrays_of(found)
    assert [layer.activation for layer in again.layers] == [layer.activation for layer in expected.layers]
    for one, other in zip(again.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(one.kernel, other.kernel)
    np.testing.assert_allclose(again.moments, expected.moments, rtol=1e-6)


def test_a_head_that_takes_features_as_they_are_has_no_moments(declare) -> None:
    head = keras_heads.build(declare("vgg16", head={"units": [5], "activation": "tanh"}).head, 4, 3)
    found, features = keras_heads.arrays_of(head), np.random.default_rng(1).normal(0, 1, (50, 4)).astype("float32")
    assert (found.moments, [layer.activation for layer in found.layers]) == (None, ["tanh", "linear"])
    np.testing.assert_allclose(found.probabilities(features), head(features), atol=1e-6)
    np.testing.assert_allclose(keras_heads.joined(found)(features), head(features), atol=1e-6)


def test_a_new_head_follows_from_its_seed_alone(declare) -> None:
    settings = declare("vgg16", head={"units": [5]}).head
    first, again, other = (keras_heads.build(settings, 4, 3, seed=seed).get_weights()[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def optimizer(**changes) -> Optimizer:
    values = {"name": "adam", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "clip_norm": None}
    return Optimizer(**(values | changes))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", "SGD"), ("rmsprop", "RMSprop"), ("adam", "Adam"), ("adamw", "AdamW")],
)
def test_the_optimiser_is_the_one_named(name: str, kind: str) -> None:
    found = keras_heads.optimizer(optimizer(name=name), 0.25)
    assert type(found).__name__ == kind
    assert float(found.learning_rate) == 0.25


def test_momentum_decay_and_clipping_reach_the_optimiser() -> None:
    assert keras_heads.optimizer(optimizer(name="sgd", momentum=0.5), 0.1).momentum == 0.5
    assert keras_heads.optimizer(optimizer(name="adamw", weight_decay=0.02), 0.1).weight_decay == 0.02
    assert keras_heads.optimizer(optimizer(name="sgd", weight_decay=0.02), 0.1).weight_decay == 0.02
    assert keras_heads.optimizer(optimizer(clip_norm=3.0), 0.1).clipnorm == 3.0


def moved(name: str, factors: dict[str, float] | None, rate: object = 0.1) -> list[np.ndarray]:
    """Return how far two variables are moved by three steps with the same gradients."""
    variables = [keras.Variable(np.ones(3, "float32"), name=name) for name in ("low", "high")]
    found = keras_heads.optimizer(optimizer(name=name), rate, factors)
    for gradient in np.random.default_rng(0).normal(1, 0.1, (3, 3)).astype("float32"):
        found.apply([gradient, gradient], variables)
    return [np.asarray(variable) - 1 for variable in variables]


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_a_variable_learns_at_its_share_of_the_rate(name: str) -> None:
    plain = moved(name, None)
    np.testing.assert_array_equal(moved(name, {"low": 1.0, "high": 1.0}), plain)
    low, high = moved(name, {"low": 0.25})
    np.testing.assert_array_equal(high, plain[1])
    np.testing.assert_allclose(low, plain[0] / 4, rtol=1e-5)


def test_shares_of_a_rate_hold_where_it_is_scheduled() -> None:
    falling = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    (low, high) = moved("adam", {"low": 0.25}, falling)
    np.testing.assert_allclose(low, high / 4, rtol=1e-5)
    assert abs(high).max() < abs(moved("adam", None)[0]).max()


def rates(steps: int, **changes) -> list[float]:
    values = {"name": "constant", "warmup": 0.0, "decay": 0.1, "boundaries": [0.5, 0.75]} | changes
    found = keras_heads.schedule(Schedule(**values), 1.0, steps)
    return [float(found(step)) if callable(found) else found for step in range(steps + 1)]


def test_a_constant_rate_stays() -> None:
    assert set(rates(10)) == {1.0}


def test_a_cosine_falls_to_zero_and_may_warm_up() -> None:
    plain, warmed = rates(10, name="cosine"), rates(10, name="cosine", warmup=0.2)
    assert (plain[0], plain[5], plain[10]) == pytest.approx((1.0, 0.5, 0.0), abs=1e-6)
    assert (warmed[0], warmed[1], warmed[2], warmed[10]) == pytest.approx((0.0, 0.5, 1.0, 0.0), abs=1e-6)


def test_an_exponential_reaches_its_decay_at_the_end() -> None:
    found = rates(10, name="exponential", decay=0.01)
    assert (found[0], found[5], found[10]) == pytest.approx((1.0, 0.1, 0.01))


def test_steps_fall_at_the_boundaries() -> None:
    found = rates(8, name="step", decay=0.5)
    assert (found[0], found[5], found[7]) == pytest.approx((1.0, 0.5, 0.25))


@pytest.mark.parametrize(("dropout", "l2"), [(0.0, 0.0), (0.4, 0.01)])
def test_rates_in_variables_do_what_those_of_layers_do(declare, dropout: float, l2: float) -> None:
    settings = declare("vgg16", head={"units": [512], "dropout": dropout, "l2": l2}).head
    rates = keras_heads.HeadRates()
    rates.set(settings)
    varied, fixed = keras_heads.build(settings, 4, 3, rates), keras_heads.build(settings, 4, 3)
    fixed.set_weights(varied.get_weights())
    batch = np.ones((200, 4), dtype="float32")
    np.testing.assert_array_equal(varied(batch, training=False), fixed(batch, training=False))
    assert float(sum(varied.losses)) == pytest.approx(float(sum(fixed.losses)), rel=1e-6)
    dropped = keras.Model(varied.input, varied.get_layer("dropout_1").output)
    kept = keras.Model(varied.input, varied.get_layer("dense_1").output)(batch)
    found = dropped(batch, training=True).numpy()
    active = kept.numpy() > 0
    assert (found[active] == 0).mean() == pytest.approx(dropout, abs=0.02)
    np.testing.assert_allclose(found[found > 0], (kept / (1 - dropout)).numpy()[found > 0], rtol=1e-5)


def test_a_restarted_optimiser_remembers_nothing(declare) -> None:
    recipe = declare("vgg16", head={"units": [4]})
    states = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        head = keras_heads.build(recipe.head, 4, 2)
        keras_heads.compile_for(head, recipe, 0.1, 10)
        if states:
            head.train_on_batch(np.ones((8, 4)), np.eye(2)[[0, 1] * 4])
            keras_heads.restart(head.optimizer, recipe.schedule, 0.1)
        else:
            head.optimizer.build(head.trainable_variables)
        states.append([variable.numpy() for variable in head.optimizer.variables])
    for used, new in zip(*states, strict=True):
        np.testing.assert_array_equal(used, new)
