"""What a line of `backbones` means, and what of it has an effect."""

import pytest

from stages.core.errors import GroupedUserError, ParameterError
from stages.core.params import merge
from stages.core.settings.backbones import resolve


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
    with pytest.raises(ParameterError, match="backbone 'vgg'; expected one of vgg16; did you mean 'vgg16'"):
        resolve("vgg", {"backbones": {"vgg16": {}}})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"schedule": {"name": "cosine"}}, "reduce_on_plateau.patience to 0"),
        ({"schedule": {"warmup": 0.1}}, "only cosine warms up"),
        ({"schedule": {"boundaries": [0.5, 0.4]}}, "rising fractions between 0 and 1"),
        ({"unfreeze": {"blocks": -1}}, "unfreeze.blocks = -1; expected 0, 1, 2, ..., a fraction of the"),
        ({"epochs": 0}, "epochs = 0; expected at least 1"),
        ({"linear": {"c": [10, 1]}}, r"linear.c = \[10, 1\]; expected rising values"),
        ({"head": {"units": [0]}}, "expected at least 1"),
        ({"name": "other"}, "unknown key 'backbones.vgg16.name'"),
    ],
)
def test_values_that_make_no_sense_together_are_errors(declare, line, message: str) -> None:
    with pytest.raises(GroupedUserError, match=message):
        declare("vgg16", **line)


def test_a_network_trained_from_nothing_is_trained_whole_and_nothing_else(declare) -> None:
    assert declare("scratch").unfreeze.blocks == "all"
    assert declare("mine", builder="scratch", unfreeze={"epochs": 3}).unfreeze.epochs == 3
    for blocks in (0, 2, 0.5):
        with pytest.raises(GroupedUserError, match=rf"blocks = {blocks}; expected 'all': scratch has no learned"):
            declare("scratch", unfreeze={"blocks": blocks})


# What has no effect ------------------------------------------------------------------------------------

LINEAR = {"unfreeze": {"blocks": 0}}
DENSE = LINEAR | {"head": {"units": [8]}}
TOP = {"unfreeze": {"blocks": 2}}
WHOLE = {"builder": "scratch", "head": {"units": [8]}}
RATE, DROPOUT = {"optimizer": {"learning_rate": 0.5}}, {"head": {"dropout": 0.25}}
CHOOSE, SHARES = {"head": {"choose": "declared"}}, {"training_shares": [0.3]}
DRAWS = {"training_draws": 3}


@pytest.mark.parametrize(
    ("line", "idle", "used"),
    [
        (
            LINEAR,
            [RATE, DROPOUT, CHOOSE, SHARES, DRAWS, {"batch_size": 7}, {"repeats": 5}, {"refit": False}, {"epochs": 9},
             {"class_weight": "balanced"}, {"linear": {"c": [1]}}, {"unfreeze": {"epochs": 9}}, {"label_smoothing": 0}],
            [{"head": {"units": [4]}}, {"head": {"pooling": "max"}}, {"unfreeze": {"blocks": 1}}],
        ),
        (
            DENSE,
            [SHARES, DRAWS, {"linear": {"c": [1]}}, {"unfreeze": {"epochs": 9, "learning_rate": 0.5, "repeats": 3}}],
            [RATE, DROPOUT, CHOOSE, {"head": {"l2": 0.25}}, {"batch_size": 7}, {"repeats": 5}, {"refit": False},
             {"epochs": 9}, {"class_weight": "balanced"}, {"label_smoothing": 0}, {"checkpoint": {"keep": "last"}}],
        ),
        (
            TOP,
            [RATE, DROPOUT, SHARES, DRAWS, {"repeats": 5}, {"refit": False}, {"epochs": 9}, {"linear": {"c": [1]}},
             {"schedule": {"decay": 0.5}}, {"reduce_on_plateau": {"patience": 9}}],
            [CHOOSE, {"unfreeze": {"schedule": "constant"}}, {"class_weight": "balanced"}, {"batch_size": 7},
             {"optimizer": {"name": "sgd"}},
             {"unfreeze": {"learning_rate": 0.5}}, {"unfreeze": {"decay": 0.5}}, {"unfreeze": {"minutes": 1}}],
        ),
        (
            WHOLE,
            [RATE, CHOOSE, DRAWS, {"repeats": 5}, {"refit": False}, {"epochs": 9}, {"linear": {"c": [1]}}],
            [DROPOUT, SHARES, {"batch_size": 7}, {"unfreeze": {"repeats": 7}}, {"head": {"units": []}}],
        ),
    ],
    ids=["linear", "dense", "top", "whole"],
)  # fmt: skip
def test_what_has_no_effect_changes_no_recipe_and_all_else_does(declare, line, idle, used) -> None:
    plain = declare("vgg16", **line).effective()
    for changes in idle:
        assert declare("vgg16", **merge(line, changes)).effective() == plain, changes
    for changes in used:
        assert declare("vgg16", **merge(line, changes)).effective() != plain, changes


@pytest.mark.parametrize("line", [LINEAR, DENSE, TOP, WHOLE], ids=["linear", "dense", "top", "whole"])
def test_what_has_an_effect_is_as_it_was_declared(declare, line: dict) -> None:
    own = declare("vgg16", **line, batch_size=7)
    found = own.effective()
    assert (found.network, found.head.units, found.unfreeze.blocks) == (
        own.network, own.head.units, own.unfreeze.blocks,
    )  # fmt: skip
    assert found.effective() == found
    if line is not LINEAR:
        assert (found.batch_size, found.early_stopping) == (7, own.early_stopping)


def test_a_constant_rate_of_phase_2_may_be_reduced_on_a_plateau(declare) -> None:
    constant = {"unfreeze": {"blocks": 2, "schedule": "constant"}}
    patient = declare("vgg16", **constant, reduce_on_plateau={"patience": 9}).effective()
    assert patient != declare("vgg16", **constant).effective()
