"""`arguments` in a backbone's line are known without loading Keras."""

import inspect

import keras
import pytest

from stages.core.builders.arguments import ARGUMENTS, RESERVED, NoArguments, argument_faults
from stages.core.builders.families import FAMILY_OF, SCRATCH
from stages.networks.architectures import build


@pytest.mark.parametrize("builder", sorted(FAMILY_OF.keys() - {SCRATCH}))
def test_the_arguments_of_a_builder_are_those_of_keras_with_its_defaults(builder: str) -> None:
    signature = inspect.signature(getattr(keras.applications, builder)).parameters
    known = ARGUMENTS.get(FAMILY_OF[builder].module, NoArguments).model_fields
    assert {name: field.default for name, field in known.items()} == {
        name: parameter.default for name, parameter in signature.items() if name not in RESERVED
    }


def test_no_family_is_listed_that_does_not_exist() -> None:
    assert ARGUMENTS.keys() <= {family.module for family in FAMILY_OF.values()}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mobilenet", {"alpha": 0.25, "depth_multiplier": 2, "dropout": 0.0}),
        ("mobilenet_v2", {"alpha": 1}),
        ("mobilenet_v3_small", {"alpha": 0.75, "minimalistic": True, "dropout_rate": 0}),
        ("scratch", {"filters": [4, 8]}),
        ("scratch", {}),
    ],
)
def test_arguments_without_a_fault_build_a_network(declare, name: str, arguments: dict) -> None:
    backbone = declare(name, arguments=arguments)
    assert argument_faults(backbone.network.family.module, arguments, "") == []
    assert build(backbone.network, None).count_params()
