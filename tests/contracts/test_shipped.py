"""What the shipped files promise: the course's heads, the first run, committed results, bounded dependencies."""

import configparser
import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from stages.core.params import read
from stages.core.settings.backbones import resolve
from stages.report.provenance import DEFAULTS
from tests.contracts.closure import ROOT
from tests.contracts.test_pipeline import ARTEFACTS, GRAPH, PARAMS, related


def test_the_defaults_that_the_report_compares_with_are_the_shipped_parameters() -> None:
    assert DEFAULTS.read_text(encoding="utf-8") == (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_the_nine_backbones_are_declared() -> None:
    assert list(PARAMS["backbones"]) == [
        "vgg16",
        "resnet50",
        "resnet50_v2",
        "inception_v3",
        "efficientnet_b0",
        "efficientnet_v2_b0",
        "mobilenet_v3_small",
        "convnext_tiny",
        "scratch",
    ]


def test_the_head_of_vgg16_is_that_of_the_course() -> None:
    backbone = resolve("vgg16", PARAMS)
    assert (backbone.builder, backbone.input_size) == ("VGG16", 224)
    assert (backbone.head.pooling, backbone.head.units, backbone.head.activation) == ("flatten", (512,), "relu")
    assert backbone.head.dropout == 0.5


def test_the_head_of_inception_v3_is_that_of_the_course() -> None:
    backbone = resolve("inception_v3", PARAMS)
    assert (backbone.builder, backbone.input_size) == ("InceptionV3", 299)
    assert (backbone.head.pooling, backbone.head.units, backbone.head.activation) == ("average", (512,), "relu")
    assert (backbone.head.dropout, backbone.optimizer.name) == (0.5, "rmsprop")


@pytest.mark.parametrize("name", [name for name in PARAMS["backbones"] if name != "scratch"])
def test_a_shipped_backbone_gets_images_of_its_normal_size(name: str) -> None:
    backbone = resolve(name, PARAMS)
    assert backbone.input_size == backbone.network.family.native[backbone.builder]


def test_the_first_run_needs_no_network_and_no_images() -> None:
    assert PARAMS["weights"] == PARAMS["weights"] | {"source": "imagenet", "if_unreachable": "random"}
    assert PARAMS["data"]["source"] == "data/samples/yoga_figures"


def test_only_scratch_is_trained_from_nothing() -> None:
    frozen = {name: resolve(name, PARAMS).unfreeze.blocks != "all" for name in PARAMS["backbones"]}
    assert frozen == {name: name != "scratch" for name in PARAMS["backbones"]}


def test_plots_are_drawn_from_files_that_compare_writes() -> None:
    written = (ROOT / "stages/compare.py").read_text(encoding="utf-8")
    drawn = {file for plot in GRAPH["plots"] for options in plot.values() for file in options["y"]}
    assert drawn
    for file in drawn:
        assert any(related(file, out) for out in ARTEFACTS["compare"])
        assert f'"{Path(file).name}"' in written
    assert GRAPH["metrics"] == ["data/summary"]


def test_dvc_reports_to_nobody_and_stages_nothing_in_git() -> None:
    config = configparser.ConfigParser()
    config.read_string(re.sub(r"(?m)^\s+", "", (ROOT / ".dvc/config").read_text(encoding="utf-8")))
    assert {key: config["core"].getboolean(key) for key in ("analytics", "check_update", "autostage")} == {
        "analytics": False,
        "check_update": False,
        "autostage": False,
    }


def test_every_dependency_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [Requirement(text) for text in project["dependencies"]]
    unbounded = [
        requirement.name
        for requirement in requirements
        if not {specifier.operator for specifier in requirement.specifier} & {"<", "<=", "==", "~="}
    ]
    assert not unbounded


def test_the_committed_lock_is_that_of_the_shipped_parameters() -> None:
    lock = read(ROOT / "dvc.lock")
    digest = hashlib.md5((ROOT / "params.yaml").read_bytes()).hexdigest()
    for stage in ("check", "compare"):
        locked = {entry["path"]: entry["md5"] for entry in lock["stages"][stage]["deps"]}
        assert locked["params.yaml"] == digest
    assert set(json.loads((ROOT / "data/metrics.json").read_text(encoding="utf-8"))) == {
        *PARAMS["backbones"],
        *("best", "recommended", "measure"),
    }


def test_the_readme_shows_the_committed_metrics() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, found in json.loads((ROOT / "data/metrics.json").read_text(encoding="utf-8")).items():
        if isinstance(found, dict):
            assert f"| `{name}` | {found['accuracy']:.1%}".replace("%", " %") in readme
