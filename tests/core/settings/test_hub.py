"""What a line of `backbones` with a builder of KerasHub means, before KerasHub is imported."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from stages.core.errors import GroupedUserError
from stages.core.params import merge, read
from stages.core.settings import hub
from stages.core.settings.recipes import write_recipes
from tests.support.features import ROOT

PRESET = "keras_hub:vit_base_patch16_224_imagenet"


@pytest.fixture
def installed(monkeypatch) -> None:
    monkeypatch.setattr(hub, "find_spec", lambda name: ModuleSpec(name, None))


def test_without_the_extra_one_line_says_how_to_install_it(declare, monkeypatch) -> None:
    monkeypatch.setattr(hub, "find_spec", lambda _: None)
    with pytest.raises(GroupedUserError) as caught:
        declare("vit", builder=PRESET)
    assert str(caught.value) == (
        f"backbones.vit.builder = '{PRESET}', and KerasHub is not installed; expected the extra 'hub'; "
        "run 'uv sync --inexact --extra hub'"
    )


@pytest.mark.parametrize(
    ("builder", "size"),
    [
        (PRESET, 224),
        ("keras_hub:vit_base_patch16_384_imagenet", 384),
        ("keras_hub:resnet_152_imagenet", 224),
        ("keras_hub:densenet_201_imagenet", 224),
        ("keras_hub:/home/512/nets/mine", 224),
        ("keras_hub:hf://keras/swin_base_384", 384),
    ],
)
def test_the_size_of_its_images_is_read_from_the_name_of_a_preset(installed, declare, builder: str, size: int) -> None:
    assert declare("net", sizes=(64, 224, 384), builder=builder).input_size == size


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"builder": "keras_hub:"}, "expected keras_hub: and a preset, its folder or a class"),
        ({"builder": "keras_hub:ViTBackbone"}, "weights = 'imagenet'; expected random, or a preset or its folder"),
        ({"builder": PRESET, "arguments": {"image_shape": [96, 96, 3]}}, "expected arguments without image_shape"),
        ({"builder": PRESET, "input_size": 31}, "input_size = 31"),
    ],
)
def test_what_a_line_cannot_say_is_one_line(installed, declare, line: dict, told: str) -> None:
    with pytest.raises(GroupedUserError, match=told):
        declare("vit", **line)


def test_a_class_takes_random_weights_or_those_of_a_preset(installed, declare) -> None:
    assert declare("vit", builder="keras_hub:ViTBackbone", weights="random").network.weights == "random"
    assert declare("vit", builder="keras_hub:ViTBackbone", weights="nets/vit").network.weights == "nets/vit"


@pytest.mark.parametrize(
    ("line", "inputs"),
    [
        ({"builder": PRESET}, "preset"),
        ({"builder": PRESET, "inputs": "tf"}, "tf"),
        ({"builder": PRESET, "weights": "random"}, "preset"),
        ({"builder": "keras_hub:ViTBackbone", "weights": "nets/vit"}, "preset"),
        ({"builder": "keras_hub:ViTBackbone", "weights": "random"}, "raw"),
        ({"builder": "keras_hub:ViTBackbone", "weights": "random", "inputs": "torch"}, "torch"),
    ],
)
def test_a_preset_states_its_own_preprocessing_unless_the_line_does(installed, declare, line: dict, inputs) -> None:
    assert declare("vit", **line).network.inputs == inputs


@pytest.mark.parametrize(
    ("name", "line"), [("vit", {"builder": "keras_hub:ViTBackbone", "weights": "random"}), ("resnet50", {})]
)
def test_where_there_is_no_preset_none_states_the_preprocessing(installed, declare, name: str, line: dict) -> None:
    with pytest.raises(GroupedUserError, match="only a preset of KerasHub states its own"):
        declare(name, inputs="preset", **line)


def test_the_arguments_of_a_class_are_left_to_it(installed, declare) -> None:
    line = {"builder": "keras_hub:ViTBackbone", "weights": "random", "arguments": {"num_layers": 3}}
    assert declare("vit", **line).network.arguments == {"num_layers": 3}


def recipe(folder: Path, **line) -> bytes:
    params = merge(read(ROOT / "params.yaml"), {})
    write_recipes(params | {"backbones": {"vit": line}}, folder)
    return (folder / "vit/weights.json").read_bytes()


@pytest.mark.parametrize("line", [{"builder": "keras_hub:nets/vit"}, {"builder": PRESET, "weights": "nets/vit"}])
def test_another_file_in_the_folder_of_a_preset_changes_the_recipe_of_its_weights(
    installed, tmp_path: Path, monkeypatch, line: dict
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets/vit").mkdir(parents=True)
    weights = Path("nets/vit/model.weights.h5")
    weights.write_bytes(b"first")
    first = recipe(tmp_path / "recipes", **line)
    assert recipe(tmp_path / "recipes", **line) == first
    weights.write_bytes(b"other")
    assert recipe(tmp_path / "recipes", **line) != first
