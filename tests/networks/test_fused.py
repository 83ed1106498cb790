import keras
import numpy as np
import pytest

from stages.networks import fused

SHAPES = ((7, 5), (5,))


def trained(optimizer: keras.optimizers.Optimizer) -> list[np.ndarray]:
    """Return what variables and moments are after steps with gradients that shrink from 1 to 1e-9."""
    draw = np.random.default_rng(0)
    variables = [keras.Variable(draw.normal(size=shape).astype("float32")) for shape in SHAPES]
    for exponent in range(10):
        gradients = [draw.normal(size=shape).astype("float32") * np.float32(10.0**-exponent) for shape in SHAPES]
        optimizer.apply(gradients, variables)
    return [np.asarray(variable) for variable in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": 0.1},
        {"learning_rate": 0.1, "weight_decay": 0.1, "clipnorm": 0.5},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5), "beta_1": 0.5, "beta_2": 0.9},
        {"learning_rate": 0.1, "epsilon": 0.1},
    ],
)
def test_a_step_is_that_of_keras(name: str, arguments: dict) -> None:
    found = trained(getattr(fused, name)(**arguments))
    for one, other in zip(found, trained(getattr(keras.optimizers, name)(**arguments)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
