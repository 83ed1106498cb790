import inspect

import keras
import pytest

from stages.errors import GroupedUserError, ParameterError
from stages.models.backbones import FAMILIES, FAMILY_OF, SCRATCH


def test_every_builder_of_keras_is_known_and_no_other() -> None:
    builders = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert set(FAMILY_OF) - {SCRATCH} == builders


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.module != SCRATCH], ids=lambda f: f.module)
def test_a_family_has_the_module_that_holds_its_builders(family) -> None:
    modules = {getattr(keras.applications, builder).__module__.rsplit(".")[-1] for builder in family.native}
    assert modules == {family.module}
    assert callable(getattr(keras.applications, family.module).preprocess_input)


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("vgg16", "VGG16"),
        ("resnet50_v2", "ResNet50V2"),
        ("efficientnet_v2_b0", "EfficientNetV2B0"),
        ("mobilenet_v3_large", "MobileNetV3Large"),
        ("ConvNeXtBase", "ConvNeXtBase"),
        ("scratch", "scratch"),
    ],
)
def test_the_name_of_a_line_names_its_builder(declare, name: str, builder: str) -> None:
    assert declare(name).builder == builder


def test_a_line_may_name_its_builder_and_be_called_otherwise(declare) -> None:
    backbone = declare("wide", builder="resnet50")
    assert (backbone.name, backbone.builder) == ("wide", "ResNet50")


def test_an_unknown_builder_is_an_error_with_the_nearest(declare) -> None:
    with pytest.raises(GroupedUserError, match=r"resnett50 names no builder.*did you mean 'ResNet50'"):
        declare("resnett50")


def test_all_faults_of_a_line_are_reported_together(declare) -> None:
    with pytest.raises(GroupedUserError) as caught:
        declare("resnett50", head={"dropuot": 0.1}, epochs=-1)
    assert len(caught.value.faults) == 3
    assert "did you mean 'dropout'" in str(caught.value)


def test_the_input_is_the_largest_prepared_size_up_to_the_native_one(declare) -> None:
    assert declare("efficientnet_b3", sizes=(96, 224, 299, 320)).input_size == 299
    assert declare("vgg16", sizes=(96, 224, 299)).input_size == 224
    assert declare("scratch", sizes=(224, 299)).input_size == 224


def test_a_size_that_is_not_prepared_is_an_error(declare) -> None:
    with pytest.raises(GroupedUserError, match=r"vgg16.input_size = 128; expected one of preprocess.sizes \(32, 64"):
        declare("vgg16", input_size=128)


def test_a_size_too_small_for_the_network_is_an_error(declare) -> None:
    with pytest.raises(GroupedUserError, match="input_size = 64; expected at least 75 pixels for InceptionV3"):
        declare("inception_v3", input_size=64)


def test_arguments_that_the_graph_sets_are_refused(declare) -> None:
    with pytest.raises(GroupedUserError, match="arguments without include_top, weights"):
        declare("vgg16", arguments={"weights": "imagenet", "include_top": True})


def test_a_line_overrides_any_parameter_of_finetune_and_nothing_else(declare) -> None:
    plain, changed = declare("vgg16"), declare("vgg16", head={"dropout": 0.25}, optimizer={"name": "sgd"})
    assert (changed.head.dropout, changed.optimizer.name) == (0.25, "sgd")
    assert changed.head.units == plain.head.units
    assert changed.optimizer.learning_rate == plain.optimizer.learning_rate


def test_a_backbone_that_is_not_declared_is_an_error(declare) -> None:
    from stages.models.backbones import resolve

    with pytest.raises(ParameterError, match="backbone 'vgg'; expected one of vgg16; did you mean 'vgg16'"):
        resolve("vgg", {"backbones": {"vgg16": {}}})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"schedule": {"name": "cosine"}}, "reduce_on_plateau.patience to 0"),
        ({"schedule": {"warmup": 0.1}}, "only cosine warms up"),
        ({"schedule": {"boundaries": [0.5, 0.4]}}, "shares rising between 0 and 1"),
        ({"unfreeze": {"blocks": -1}}, "unfreeze.blocks = -1; expected 0, 1, 2, ... or all"),
        ({"epochs": 0}, "more than 0 while epochs is 0"),
        ({"head": {"units": [0]}}, "expected at least 1"),
        ({"name": "other"}, "unknown key 'backbones.vgg16.name'"),
    ],
)
def test_values_that_make_no_sense_together_are_errors(declare, line, message: str) -> None:
    with pytest.raises(GroupedUserError, match=message):
        declare("vgg16", **line)
