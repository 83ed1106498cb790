"""The table of builders is that of `keras.applications`."""

import inspect

import keras
import pytest

from stages.core.builders.families import FAMILIES, FAMILY_OF, SCRATCH


def test_every_builder_of_keras_is_known_and_no_other() -> None:
    builders = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert set(FAMILY_OF) - {SCRATCH} == builders


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.module != SCRATCH], ids=lambda f: f.module)
def test_a_family_has_the_module_that_holds_its_builders(family) -> None:
    modules = {getattr(keras.applications, builder).__module__.rsplit(".")[-1] for builder in family.native}
    assert modules == {family.module}
    assert callable(getattr(keras.applications, family.module).preprocess_input)
