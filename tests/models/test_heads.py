import keras
import numpy as np
import pytest

from stages.models import heads
from stages.models.recipe import Optimizer, Schedule


def dense_layers(head: keras.Model) -> list[keras.layers.Dense]:
    return [layer for layer in head.layers if isinstance(layer, keras.layers.Dense)]


def test_the_head_of_the_course_for_vgg16(declare) -> None:
    head = heads.build(declare("vgg16", head={"units": [512], "dropout": 0.5, "l2": 0.0}).head, 25088, 5, None)
    assert [type(layer).__name__ for layer in head.layers] == ["InputLayer", "Dense", "Dropout", "Dense"]
    assert [(layer.units, layer.activation.__name__) for layer in dense_layers(head)] == [(512, "relu"), (5, "softmax")]
    assert head.get_layer("dropout_1").rate == 0.5


@pytest.mark.parametrize("units", [[], [8], [16, 8]])
def test_units_give_the_dense_layers(declare, units: list[int]) -> None:
    head = heads.build(declare("vgg16", head={"units": units}).head, 4, 3, None)
    assert [layer.units for layer in dense_layers(head)] == [*units, 3]


def test_no_dropout_is_no_layer(declare) -> None:
    head = heads.build(declare("vgg16", head={"dropout": 0.0}).head, 4, 3, None)
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in head.layers)


def test_dropout_drops_in_training_alone(declare) -> None:
    head = heads.build(declare("vgg16", head={"dropout": 0.9}).head, 4, 3, None)
    batch = np.ones((1, 4), dtype="float32")
    assert not np.allclose(head(batch, training=True), head(batch, training=False))
    np.testing.assert_array_equal(head(batch, training=False), head(batch, training=False))


def test_l2_adds_its_penalty_to_the_loss(declare) -> None:
    head = heads.build(declare("vgg16", head={"units": [8], "l2": 0.5}).head, 4, 3, None)
    expected = 0.5 * np.square(head.get_layer("dense_1").kernel.numpy()).sum()
    assert float(head.losses[0]) == pytest.approx(expected, rel=1e-5)
    assert not heads.build(declare("vgg16", head={"l2": 0.0}).head, 4, 3, None).losses


def test_the_activation_is_the_one_named(declare) -> None:
    head = heads.build(declare("vgg16", head={"activation": "gelu"}).head, 4, 3, None)
    assert head.get_layer("dense_1").activation is keras.activations.gelu


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e6])
def test_features_of_any_scale_are_standardised(declare, scale: float) -> None:
    features = np.random.default_rng(0).normal(3, 2, (500, 6)) * scale
    moments = heads.moments([features[:200], features[200:]])
    np.testing.assert_allclose(moments[0], features.mean(axis=0))
    np.testing.assert_allclose(moments[1], features.var(axis=0))
    head = heads.build(declare("vgg16").head, 6, 2, moments)
    inner = keras.Model(head.input, head.get_layer("standardise").output)
    found = inner.predict(features.astype("float32"), verbose=0)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-4)


def test_a_constant_feature_is_not_blown_up(declare) -> None:
    features = np.random.default_rng(0).normal(0, 1, (50, 3))
    features[:, 1] = 7.0
    head = heads.build(declare("vgg16").head, 3, 2, heads.moments([features]))
    inner = keras.Model(head.input, head.get_layer("standardise").output)
    later = np.array([[0.0, 7.1, 0.0]], dtype="float32")
    assert abs(float(inner.predict(later, verbose=0)[0, 1])) < 20


def test_features_that_are_all_constant_give_numbers(declare) -> None:
    head = heads.build(declare("vgg16").head, 3, 2, heads.moments([np.full((10, 3), 2.0)]))
    assert np.isfinite(head.predict(np.full((1, 3), 2.0, dtype="float32"), verbose=0)).all()


def optimizer(**changes) -> Optimizer:
    values = {"name": "adam", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "clip_norm": None}
    return Optimizer(**(values | changes))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", "SGD"), ("rmsprop", "RMSprop"), ("adam", "Adam"), ("adamw", "AdamW")],
)
def test_the_optimiser_is_the_one_named(name: str, kind: str) -> None:
    found = heads.optimizer(optimizer(name=name), 0.25)
    assert type(found).__name__ == kind
    assert float(found.learning_rate) == 0.25


def test_momentum_decay_and_clipping_reach_the_optimiser() -> None:
    assert heads.optimizer(optimizer(name="sgd", momentum=0.5), 0.1).momentum == 0.5
    assert heads.optimizer(optimizer(name="adamw", weight_decay=0.02), 0.1).weight_decay == 0.02
    assert heads.optimizer(optimizer(name="sgd", weight_decay=0.02), 0.1).weight_decay == 0.02
    assert heads.optimizer(optimizer(clip_norm=3.0), 0.1).clipnorm == 3.0


def rates(steps: int, **changes) -> list[float]:
    values = {"name": "constant", "warmup": 0.0, "decay": 0.1, "boundaries": [0.5, 0.75]} | changes
    found = heads.schedule(Schedule(**values), 1.0, steps)
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
    rates = heads.Rates()
    rates.set(settings)
    varied, fixed = heads.build(settings, 4, 3, None, rates), heads.build(settings, 4, 3, None)
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


def test_features_are_standardised_as_by_the_layers_of_the_saved_head(declare) -> None:
    features = np.random.default_rng(0).normal(3e-10, 1e-10, (500, 6)).astype("float32")
    moments = heads.moments([features])
    head = heads.build(declare("vgg16").head, 6, 2, moments)
    inner = keras.Model(head.input, head.get_layer("standardise").output)
    np.testing.assert_allclose(heads.standardisation(moments)(features), inner(features), rtol=1e-5, atol=1e-6)


def test_a_restarted_optimiser_remembers_nothing(declare) -> None:
    recipe = declare("vgg16", head={"units": [4]})
    states = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        head = heads.build(recipe.head, 4, 2, None)
        heads.compile_for(head, recipe, 0.1, 10)
        if states:
            head.train_on_batch(np.ones((8, 4)), np.eye(2)[[0, 1] * 4])
            heads.restart(head.optimizer, recipe.schedule, 0.1)
        else:
            head.optimizer.build(head.trainable_variables)
        states.append([variable.numpy() for variable in head.optimizer.variables])
    for used, new in zip(*states, strict=True):
        np.testing.assert_array_equal(used, new)
