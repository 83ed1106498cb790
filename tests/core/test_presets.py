"""The quick preset makes a first run cheap whatever params.yaml says, and leaves what decides the verdict alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.check import SECTIONS, faults, overridden
from stages.core import presets
from stages.core.params import as_written, lookup, merge, parse, read, with_preset
from stages.core.settings.backbones import Backbone, resolve
from stages.core.settings.recipes import FinetuneRecipe, UnfreezeRecipe, read_recipe, write_recipes
from tests.contracts.closure import ROOT

SHIPPED = as_written(ROOT / "params.yaml")
QUICK = SHIPPED | {"preset": "quick"}


def leaves(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def resolved(line: Mapping[str, Any], name: str = "vgg16") -> Backbone:
    return resolve(name, with_preset(QUICK | {"backbones": {name: line}}))


def test_the_shipped_preset_changes_nothing() -> None:
    assert SHIPPED["preset"] == "full"
    assert with_preset(SHIPPED) == SHIPPED
    assert overridden(SHIPPED) == []


def test_what_the_quick_preset_sets_is_valid_and_stands_in_params_under_the_same_keys() -> None:
    for key, _ in leaves(presets.SECTIONS["quick"]):
        assert lookup(SHIPPED, key) is not None
    for key, _ in leaves(presets.BACKBONES["quick"]):
        assert lookup(SHIPPED, f"finetune.{key}") is not None
    effective = with_preset(QUICK)
    assert all(parse(cls, effective[section], section) for section, cls in SECTIONS.items())


def test_a_quick_run_splits_ranks_and_tests_as_a_full_one() -> None:
    same = {"data", "split", "preprocess", "weights", "features", "audit", "rank", "evaluate", "report", "gate"}
    assert {key for key in SHIPPED if with_preset(QUICK)[key] == SHIPPED[key]} >= same


@pytest.mark.parametrize(
    "line", [{}, {"head": {"units": [512]}, "unfreeze": {"blocks": 3, "repeats": 5}, "training_draws": 50}]
)
def test_a_pretrained_network_gets_the_linear_head_alone_whatever_its_line_says(line: dict[str, Any]) -> None:
    found = resolved(line)
    assert (found.head.units, found.unfreeze.blocks, found.training_draws) == ((), 0, 3)


def test_a_quick_run_does_no_more_of_anything_than_is_asked_for() -> None:
    asked = {"explain": {"examples": 0, "map_images": 50}, "benchmark": {"repeats": 3}, "export": {"formats": ["onnx"]}}
    effective = with_preset(merge(QUICK, asked))
    assert {section: {key: effective[section][key] for key in keys} for section, keys in asked.items()} == asked
    assert overridden(merge(QUICK, asked))[0].split(":")[0] not in {"explain.examples", "benchmark.repeats"}
    found = resolved({"training_shares": [], "training_draws": 1})
    assert (found.training_shares, found.training_draws) == ((), 1)


@pytest.mark.parametrize(
    ("asked", "effective"),
    [
        (["onnx", "openvino", "keras"], ["openvino", "keras"]),
        (["litert"], ["litert"]),
        (["onnx", "litert", "saved_model"], ["onnx", "litert"]),
    ],
)
def test_of_the_formats_that_are_asked_for_a_quick_run_writes_its_own_or_as_many(
    asked: list[str], effective: list[str]
) -> None:
    assert with_preset(merge(QUICK, {"export": {"formats": asked}}))["export"]["formats"] == effective


def test_a_network_from_scratch_is_trained_once_with_its_own_layers() -> None:
    line = {"builder": "scratch", "head": {"units": [32]}, "unfreeze": {"epochs": 9, "repeats": 3}}
    found = resolved(line, "small")
    assert (found.head.units, found.unfreeze.blocks, found.unfreeze.epochs) == ((32,), "all", 9)
    assert (found.unfreeze.repeats, found.training_shares) == (1, ())


def test_params_are_read_with_what_their_preset_sets_and_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(merge(QUICK, {"tune": {"trials": 50}})))
    assert (as_written(file)["tune"]["trials"], read(file)["tune"]["trials"]) == (50, 0)


def test_recipes_hold_the_effective_values(tmp_path: Path) -> None:
    write_recipes(with_preset(QUICK), tmp_path)
    assert read_recipe(UnfreezeRecipe, "vgg16", tmp_path).unfreeze.blocks == 0
    assert read_recipe(FinetuneRecipe, "vgg16", tmp_path).head.units == ()
    assert read_recipe(UnfreezeRecipe, "scratch", tmp_path).unfreeze.blocks == "all"


def test_check_names_what_is_overridden_and_in_which_backbones() -> None:
    lines = {"vgg16": {"head": {"units": [512]}}, "resnet50": {}}
    found = overridden(merge(QUICK, {"tune": {"trials": 50}}) | {"backbones": lines})
    assert found[0] == "tune.trials: 0 for 50"
    assert "head.units: [] (vgg16)" in found
    assert "unfreeze.blocks: 0 (vgg16, resnet50)" in found


def test_what_a_preset_replaces_has_to_be_right_as_well() -> None:
    faulty = merge(QUICK, {"tune": {"trials": -1}, "backbones": {"vgg16": {"head": {"units": "x"}}}})
    assert [str(fault).split(";")[0] for fault in faults(faulty)] == [
        "tune.trials = -1",
        "backbones.vgg16.head.units = 'x'",
    ]


def test_an_unknown_preset_is_an_error_with_the_nearest() -> None:
    (fault,) = faults(SHIPPED | {"preset": "quik"})
    assert str(fault) == "preset = 'quik'; expected 'full' or 'quick'; did you mean 'quick'?"
    (fault,) = faults({key: value for key, value in SHIPPED.items() if key != "preset"})
    assert str(fault) == "'preset' is missing; expected this key; add it, or restore params.yaml from git"
