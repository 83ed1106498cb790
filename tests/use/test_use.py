"""`python -m stages.use NAME` writes the lines of a set into params.yaml and leaves everything else as it is."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.check import faults
from stages.core.errors import ParameterError
from stages.core.params import read
from stages.use.__main__ import lines_of, sets
from stages.use.lines import replaced
from tests.support.clone import environment
from tests.support.features import ROOT

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
TEXT = """\
seed: 1                         # a comment
backbones:                      # by name
  vgg16: {epochs: 3}            # mine
  # about the next one
  resnet50:
    head:
      units: [8]

# the audit
audit: {}
"""


def test_the_course_s_set_is_what_is_shipped() -> None:
    assert lines_of("course") == read(ROOT / "params.yaml")["backbones"]


@pytest.mark.parametrize("name", sets())
def test_each_set_is_valid_and_changes_nothing_but_the_lines(name: str) -> None:
    text = replaced(SHIPPED, lines_of(name))
    params = yaml.safe_load(text)
    assert params["backbones"] == lines_of(name)
    assert faults(params) == []
    section = SHIPPED.index("\nbackbones:")
    assert text.startswith(SHIPPED[: SHIPPED.index("\n", section + 1)])
    assert text.endswith(SHIPPED[SHIPPED.index("\naudit:") :])


def test_a_line_that_is_there_stays_as_it_is_written() -> None:
    assert replaced(TEXT, {"vgg16": {}, "scratch": {"input_size": 64}}) == TEXT.replace(
        "  # about the next one\n  resnet50:\n    head:\n      units: [8]\n", "  scratch: {input_size: 64}\n"
    )


def test_comments_above_a_line_stay_with_it() -> None:
    found = replaced(TEXT, {"scratch": {}, "resnet50": {}})
    assert found == TEXT.replace("  vgg16: {epochs: 3}            # mine\n", "  scratch: {}\n")


@pytest.mark.parametrize("keep", [True, False])
def test_a_last_line_may_lack_its_end(*, keep: bool) -> None:
    found = replaced("backbones:\n  vgg16: {}\n  resnet50: {}", {"resnet50": {}, "scratch": {}}, keep=keep)
    assert list(yaml.safe_load(found)["backbones"]) == [*["vgg16"] * keep, "resnet50", "scratch"]


@pytest.mark.parametrize("indent", [1, 4])
def test_lines_are_indented_like_the_others(indent: int) -> None:
    text = TEXT.replace("\n  ", f"\n{' ' * indent}")
    found = yaml.safe_load(replaced(text, {"scratch": {}, "vgg16": {}}, keep=True))
    assert found["backbones"] == {"vgg16": {"epochs": 3}, "resnet50": {"head": {"units": [8]}}, "scratch": {}}


def test_all_of_a_line_is_replaced_where_it_has_blank_ones_within() -> None:
    text = TEXT.replace("    head:\n", "    head:\n\n")
    assert replaced(text, {"vgg16": {}}) == TEXT.replace(
        "  # about the next one\n  resnet50:\n    head:\n      units: [8]\n", ""
    )


def test_a_line_that_refers_to_one_that_would_go_is_refused() -> None:
    text = "backbones:\n  vgg16: &same {epochs: 3}\n  resnet50: *same\n"
    assert replaced(text, {"scratch": {}}, keep=True) == f"{text}  scratch: {{}}\n"
    with pytest.raises(ParameterError, match="backbones whose lines depend on each other; expected lines that can be"):
        replaced(text, {"resnet50": {}})


def test_others_are_kept_where_the_set_is_added() -> None:
    found = replaced(TEXT, {"vgg16": {}, "scratch": {}}, keep=True)
    assert found == TEXT.replace("      units: [8]\n", "      units: [8]\n  scratch: {}\n")


def test_the_set_in_use_may_be_written_again() -> None:
    assert replaced(SHIPPED, lines_of("course")) == SHIPPED


@pytest.mark.parametrize("section", ["backbones: {vgg16: {}}", "backbones: {}", "backbones:", "seed: 1"])
def test_a_section_without_lines_of_its_own_is_refused(section: str) -> None:
    with pytest.raises(ParameterError, match="expected a line of its own for each backbone"):
        replaced(f"{section}\n", {"vgg16": {}})


def used(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stages.use", *arguments]
    settings = environment(root) | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=root, env=settings, capture_output=True, text=True, check=False)


def test_the_program_lists_the_sets_and_writes_one(tmp_path) -> None:
    (tmp_path / "params.yaml").write_text(SHIPPED, encoding="utf-8")
    assert used(tmp_path).stdout.splitlines()[1].startswith("small: networks of at most 8 million parameters, ")
    assert used(tmp_path, "smal").stderr == (
        "params.yaml: a set of backbones 'smal'; expected one of course, small, modern; did you mean 'small'?\n"
    )
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == SHIPPED
    done = used(tmp_path, "small")
    assert (done.returncode, done.stderr) == (0, "")
    kept, added, removed, last = done.stdout.splitlines()
    assert kept == "kept: efficientnet_b0, efficientnet_v2_b0, mobilenet_v3_small"
    assert added == "added: mobilenet_v2, mobilenet_v3_large, nasnet_mobile"
    assert removed == (
        "removed: vgg16, resnet50, resnet50_v2, inception_v3, convnext_tiny, scratch "
        "(--add would keep them; `git diff params.yaml` has their lines)"
    )
    assert last.startswith("params.yaml declares the set 'small'; next: ")
    assert used(tmp_path, "small").stdout.splitlines()[0].startswith("kept: mobilenet_v2, ")
    assert len(used(tmp_path, "small").stdout.splitlines()) == 2
    assert list(yaml.safe_load((tmp_path / "params.yaml").read_text())["backbones"]) == list(lines_of("small"))
