"""A change of params.yaml reaches the recipes of the stages that it has an effect on, and no others."""

import pytest

from stages.core.errors import DataError
from stages.core.params import merge, part, read
from stages.core.settings.preprocess import ViewParams
from stages.core.settings.recipes import (
    FinetuneRecipe,
    ProbeRecipe,
    StageRecipe,
    UnfreezeRecipe,
    ViewsRecipe,
    WeightsRecipe,
    read_recipe,
    write_recipes,
)
from stages.core.settings.report import MeasureParams
from tests.core.settings.test_backbones import CHOOSE, DENSE, DROPOUT, LINEAR, SHARES, TOP, WHOLE
from tests.support.features import ROOT


def recipes(folder, *, searched: bool = False, **line) -> dict[str, bytes]:
    params = merge(read(ROOT / "params.yaml"), {"tune": {"trials": 3 if searched else 0}})
    write_recipes(params | {"backbones": {"vgg16": line}}, folder)
    return {path.stem: path.read_bytes() for path in (folder / "vgg16").iterdir()}


@pytest.mark.parametrize(
    ("changes", "files"),
    [
        ({}, set()),
        (DROPOUT, set()),
        ({"linear": {"c": [1, 2]}}, {"probe"}),
        (SHARES, {"probe"}),
        ({"class_weight": "balanced"}, {"probe", "unfreeze"}),
        ({"head": {"pooling": "max"}}, {"weights", "finetune", "unfreeze"}),
        ({"builder": "VGG19"}, {"weights", "finetune", "unfreeze"}),
        ({"inputs": "caffe"}, set()),
        ({"inputs": "tf"}, {"weights", "finetune", "unfreeze"}),
        ({"unfreeze": {"epochs": 9}}, {"unfreeze"}),
        (CHOOSE, {"finetune"}),
        ({"head": {"units": [8]}}, {"views", "finetune"}),
        (
            {"head": {"units": [8], "dropout": 0.3, "l2": 0.1}, "refit": False, "epochs": 9, "repeats": 7},
            {"views", "finetune"},
        ),
        (WHOLE, {"weights", "views", "finetune", "unfreeze"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "+".join(sorted(value)) or "none",
)
def test_a_change_reaches_the_recipes_that_it_has_an_effect_on(tmp_path, changes: dict, files: set[str]) -> None:
    before, after = recipes(tmp_path / "before"), recipes(tmp_path / "after", **changes)
    assert set(before) == {cls.stage for cls in StageRecipe.__subclasses__()}
    assert {name for name, content in after.items() if content != before[name]} == files


def test_another_file_of_weights_reaches_the_weights_of_its_backbone_alone(tmp_path) -> None:
    params, written = read(ROOT / "params.yaml") | {"backbones": {"vgg16": {"weights": "own.h5"}, "resnet50": {}}}, []
    for digest in ("sha256:a", "sha256:b"):
        write_recipes(params, tmp_path, {"vgg16": digest})
        written.append({f"{path.parent.name}/{path.stem}": path.read_bytes() for path in tmp_path.rglob("*.json")})
        assert read_recipe(WeightsRecipe, "vgg16", tmp_path).digest == digest
    assert {name for name, content in written[0].items() if content != written[1][name]} == {"vgg16/weights"}
    assert read_recipe(WeightsRecipe, "resnet50", tmp_path).digest is None


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("line", [LINEAR, DENSE, TOP])
def test_the_checksum_of_weights_reaches_the_weights_alone(tmp_path, line: dict, *, searched: bool) -> None:
    line = line | {"weights": "own.h5"}
    before = recipes(tmp_path / "before", searched=searched, **line)
    after = recipes(tmp_path / "after", searched=searched, **line, checksum=f"sha256:{'a' * 64}")
    assert {name for name, content in after.items() if content != before[name]} == {"weights"}


def test_another_source_or_folder_reaches_only_the_backbones_that_take_their_weights_from_it(tmp_path) -> None:
    lines: dict = {"vgg16": {"weights": "random"}, "resnet50": {}}
    changed = []
    for weights in ({}, {"folder": "other"}, {"folder": "other", "source": "random"}):
        write_recipes(merge(read(ROOT / "params.yaml"), {"weights": weights}) | {"backbones": lines}, tmp_path)
        changed.append({path.parent.name: path.read_bytes() for path in tmp_path.rglob("weights.json")})
    assert changed[0] == changed[1]
    assert changed[1]["vgg16"] == changed[2]["vgg16"]
    assert changed[1]["resnet50"] != changed[2]["resnet50"]


def test_where_heads_are_searched_all_has_an_effect(tmp_path) -> None:
    before, after = (recipes(tmp_path, searched=True, **line)["finetune"] for line in ({}, DROPOUT))
    assert before != after


def test_recipes_are_read_as_they_were_declared(declare, tmp_path) -> None:
    params = read(ROOT / "params.yaml")
    shared = {"seed": params["seed"], "threads": params["threads"]}
    views = part(ViewParams, params, "preprocess")
    backbone = declare("vgg16", sizes=(64, 224, 299), **DENSE)
    recipes(tmp_path, **DENSE)
    assert read_recipe(WeightsRecipe, "vgg16", tmp_path).network == backbone.network
    assert read_recipe(ProbeRecipe, "vgg16", tmp_path).c == backbone.linear.c
    deciding = MeasureParams(measure="accuracy", costs={})
    expected = FinetuneRecipe(**shared, deciding=deciding, **dict(backbone.head_recipe))
    assert read_recipe(FinetuneRecipe, "vgg16", tmp_path) == expected
    assert read_recipe(ViewsRecipe, "vgg16", tmp_path).augmentation == views.augmentation
    # Nothing of it is unfrozen.
    assert read_recipe(UnfreezeRecipe, "vgg16", tmp_path).views == 0
    recipes(tmp_path, **TOP)
    top = declare("vgg16", sizes=(64, 224, 299), **TOP).unfreeze_recipe
    assert read_recipe(UnfreezeRecipe, "vgg16", tmp_path) == UnfreezeRecipe(**shared, **dict(top), **dict(views))
    assert read_recipe(ViewsRecipe, "vgg16", tmp_path).views == 0


def test_what_all_backbones_share_is_in_the_recipes_of_the_stages_that_read_it(tmp_path) -> None:
    changes = {
        "explain": {"examples": 1}, "benchmark": {"repeats": 7}, "features": {"batch_size": 5}, "audit": {"folds": 3},
        "weights": {"connect_timeout": 9}, "threads": 9,
    }  # fmt: skip
    before, reached = recipes(tmp_path), {}
    for key, value in changes.items():
        params = merge(read(ROOT / "params.yaml"), {key: value})
        write_recipes(params | {"backbones": {"vgg16": {}}}, tmp_path)
        after = {path.stem: path.read_bytes() for path in (tmp_path / "vgg16").iterdir()}
        reached[key] = {stage for stage, content in after.items() if content != before[stage]}
    assert reached == {
        "explain": {"explain"}, "benchmark": {"benchmark"}, "features": {"features", "views"},
        "audit": {"probe"}, "weights": {"weights"}, "threads": set(before),
    }  # fmt: skip


def test_an_augmentation_reaches_what_is_trained_on_views(tmp_path) -> None:
    written = []
    for rotation in (12, 13):
        params = read(ROOT / "params.yaml")
        augmentation = params["preprocess"]["augmentation"] | {"rotation": rotation}
        lines = {"dense": DENSE, "top": TOP, "linear": LINEAR}
        named = {name: {"builder": "vgg16"} | line for name, line in lines.items()}
        changed = {"preprocess": params["preprocess"] | {"augmentation": augmentation}, "backbones": named}
        write_recipes(params | changed, tmp_path)
        written.append({f"{path.parent.name}/{path.stem}": path.read_bytes() for path in tmp_path.rglob("*.json")})
    changed = {name for name, content in written[0].items() if content != written[1][name]}
    assert changed == {"dense/views", "top/unfreeze"}


def test_a_recipe_that_is_not_there_says_which_command_writes_it(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no .*/vgg16/finetune.json; .* run 'dvc repro check'"):
        read_recipe(FinetuneRecipe, "vgg16", tmp_path)
