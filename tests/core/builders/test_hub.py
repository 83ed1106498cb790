"""What a line of `backbones` with a builder of KerasHub means, before KerasHub is imported."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from stages.core.builders import hub
from stages.core.errors import GroupedUserError
from stages.core.params import merge, read
from stages.core.settings.backbones import resolve
from stages.core.settings.recipes import write_recipes
from stages.sources.own_weights import preset_folders
from tests.support.features import ROOT

DIGEST = f"sha256:{'a' * 64}"
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
        ("keras_hub:siglip_so400m_patch14_384", 384),
        ("keras_hub:siglip_so400m_patch16_256_i18n", 256),
        ("keras_hub:medsiglip_900m_448", 448),
        ("keras_hub:clip_vit_bigg_14_laion2b_39b_b160k", 224),
        ("keras_hub:clip_vit_large_patch14_336", 336),
        ("keras_hub:metaclip_2_vit_huge_patch14_378", 378),
        ("keras_hub:mit_b5_cityscapes_1024", 1024),
        ("keras_hub:efficientnet_b1_ra4_e3600_r240_imagenet", 240),
        ("keras_hub:dinov3_vit_small_lvd1689m", 224),
        ("keras_hub:resnet_vd_200_imagenet", 224),
    ],
)
def test_the_size_of_its_images_is_read_from_the_name_of_a_preset(installed, declare, builder: str, size: int) -> None:
    sizes = (64, 224, 240, 256, 336, 378, 384, 400, 448, 1024)
    assert declare("net", sizes=sizes, builder=builder).input_size == size


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"builder": "keras_hub:"}, "expected 'keras_hub:' and a preset, its folder or a class"),
        ({"builder": "keras_hub:ViTBackbone"}, "weights = 'imagenet'; expected random, or a preset or its folder"),
        ({"builder": PRESET, "arguments": {"image_shape": [96, 96, 3]}}, "expected arguments without image_shape"),
        ({"builder": PRESET, "input_size": 31}, "input_size = 31"),
        (
            {"builder": PRESET, "weights": "imagnet"},
            r"weights = 'imagnet'; expected imagenet, .*did you mean 'imagenet'",
        ),
        ({"builder": PRESET, "weights": "rndom"}, r"weights = 'rndom'; expected imagenet, .*did you mean 'random'"),
        ({"builder": PRESET, "weights": "nets/own.weights.h5"}, "expected imagenet, .* it takes no file"),
        ({"builder": PRESET, "weights": "https://host/own"}, "its folder, or an address with hf://, kaggle://"),
        ({"builder": PRESET, "weights": "hf://me:pa55word@host/vit"}, "without a password or token"),
        ({"builder": "keras_hub:hf://me:pa55word@host/vit"}, "without a password or token"),
        ({"builder": "keras_hub:https://host/own"}, "its folder, or an address with hf://, kaggle://"),
        ({"builder": PRESET, "weights": "random", "checksum": DIGEST}, "expected null with weights: random"),
        ({"builder": PRESET, "checksum": "sha256:1"}, "expected null, or sha256: and 64 hexadecimal digits"),
    ],
)
def test_what_a_line_cannot_say_is_one_line(installed, declare, line: dict, told: str) -> None:
    with pytest.raises(GroupedUserError, match=told):
        declare("vit", **line)


def test_a_secret_in_the_address_of_a_preset_is_not_repeated(installed, declare) -> None:
    for line in ({"builder": PRESET, "weights": "hf://me:pa55word@h/v"}, {"builder": "keras_hub:hf://me:pa55word@h/v"}):
        with pytest.raises(GroupedUserError) as caught:
            declare("vit", **line)
        assert "pa55word" not in str(caught.value)


@pytest.mark.parametrize("line", [{"builder": PRESET}, {"builder": "keras_hub:ViTBackbone", "weights": "nets/vit"}])
def test_the_weights_of_a_preset_may_have_a_checksum(installed, declare, line: dict) -> None:
    assert declare("vit", checksum=DIGEST, **line).network.checksum == DIGEST


@pytest.mark.parametrize("named", ["parseq", "hf://timm/resnet18.a1_in1k", "kaggle://keras/vit/keras/vit_base"])
def test_any_other_name_may_be_that_of_a_preset(installed, declare, named: str) -> None:
    assert declare("net", builder="keras_hub:ViTBackbone", weights=named).weights == named
    assert declare("net", builder=f"keras_hub:{named}", weights="imagenet").builder == f"keras_hub:{named}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"builder": PRESET, "weights": "resnet_18_imagenet"}, "the preset's folder: the builder names the preset"),
        ({"builder": PRESET, "weights": "hf://timm/resnet18.a1_in1k"}, "the builder names the preset"),
        ({"builder": "keras_hub:ViTBackbone", "weights": PRESET}, "its folder without 'keras_hub:'"),
    ],
)
def test_one_preset_is_not_built_in_the_name_of_another(installed, declare, line: dict, told: str) -> None:
    with pytest.raises(GroupedUserError, match=told):
        declare("net", **line)


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
    """Return the recipe of stage weights as stage check writes it."""
    params = merge(read(ROOT / "params.yaml"), {}) | {"backbones": {"vit": line}}
    write_recipes(params, folder, {name: hub.digest(place) for name, place in preset_folders(params).items()})
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


@pytest.mark.parametrize("source", ["own.h5", "models/{backbone}/model.keras", "https://host/own.h5"])
@pytest.mark.parametrize("line", [{"builder": PRESET}, {"builder": "scratch"}])
def test_a_file_of_weights_for_all_is_none_of_scratch_s_or_keras_hub_s(installed, source: str, line: dict) -> None:
    params = merge(read(ROOT / "params.yaml"), {"weights": {"source": source}})
    lines: dict = {"net": line, "vgg16": {}}
    found = {name: resolve(name, params | {"backbones": lines}).weights for name in lines}
    assert found == {"net": "imagenet", "vgg16": source}


def test_what_is_said_for_all_without_a_file_holds_for_keras_hub_too(installed) -> None:
    params = merge(read(ROOT / "params.yaml"), {"weights": {"source": "random"}})
    assert resolve("net", params | {"backbones": {"net": {"builder": PRESET}}}).weights == "random"


def test_a_file_on_the_line_of_scratch_itself_counts(declare) -> None:
    assert declare("scratch", weights="old/model.keras").weights == "old/model.keras"
