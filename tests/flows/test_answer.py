"""The last lines of a comparison in the terminal are its answer, in the language of its report."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows import answer
from stages.pages.catalogues import named
from stages.pages.language import ENGLISH, Language
from stages.report import markdown_summary
from stages.report.opening import Setting
from tests.support import artefacts
from tests.support.contest import evidence
from tests.support.material import numbers

PAGE = "data/report/comparison.html"
FOUND = {"large": range(10), "small": range(12), "x": range(40)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / answer.SUMMARY.parent).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(language: Language = ENGLISH, found=FOUND, preset: str = "full", **facts) -> list[str]:
    setting = Setting("poses", preset)
    summary = markdown_summary.markdown(numbers(evidence(found, **facts), language, setting=setting), language)
    answer.SUMMARY.write_text(summary, encoding="utf-8")
    return answer.answer()


def test_the_answer_is_the_verdict_how_sure_it_is_what_to_do_next_and_the_path_of_the_page() -> None:
    verdict, score, stability, following, page = said()
    assert verdict.startswith("Use large, which scores highest: small is 18 times smaller than it, but may be up to")
    assert score.startswith("large is right on 90.0 % of 100 test images (95 % confidence interval")
    assert stability.startswith("Selected again in ")
    assert following == "Next: label new images with it: python -m stages.predict FOLDER"
    assert page == PAGE


def test_what_the_quick_preset_leaves_out_comes_before_the_other_warnings() -> None:
    _, quick, _, _, warning, following, page = said(preset="quick", audit=artefacts.audit(small_classes={"cat": 4}))
    assert quick.startswith("Quick run (preset: quick): no network was fine-tuned")
    assert "cat (4)" in warning
    assert following.startswith("Next")
    assert page == PAGE


def test_numbers_that_must_not_be_used_are_the_answer_and_why() -> None:
    verdict, reason, remedy, following, page = said(found={"a": (), "b": ()}, weights={"a": "random"})
    assert verdict == "These numbers must not be used to choose: 1 of 2 backbones carries random weights."
    assert reason.startswith("Random weights in a because: no mirror")
    assert remedy.startswith("Published weights come with weights.source: imagenet")
    assert following == "Next, where published weights can be reached: dvc exp run -S weights.if_unreachable=stop"
    assert page == PAGE


def test_what_changes_the_reading_of_the_numbers_is_warned_of() -> None:
    _, _, _, warning, following, page = said(audit=artefacts.audit(small_classes={"cat": 4}))
    assert warning.startswith("1 class has too few training images to be learned reliably: cat (4); add")
    assert following.startswith("Next")
    assert page == PAGE


def test_it_is_said_in_the_language_of_the_report() -> None:
    verdict, _, _, warning, following, page = said(named("es"), audit=artefacts.audit(small_classes={"cat": 4}))
    assert verdict.startswith("Use large, que ")
    assert "cat (4)" in warning
    assert verdict != said()[0]
    assert following.startswith("Siguiente paso: ")
    assert page == PAGE


@pytest.mark.parametrize("name", ["a`b", "`a", "*x*", "a|b"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    assert said(found={name: (), "other": range(60)})[0].startswith(f"Use {name}: ")


@pytest.mark.parametrize("text", [None, "", "## Backbone comparison\n"])
def test_without_a_summary_there_is_no_answer(text: str | None) -> None:
    if text is not None:
        answer.SUMMARY.write_text(text)
    assert answer.answer() == []


def test_the_program_prints_it_without_the_project_in_its_path(folder: Path) -> None:
    lines = said()
    done = subprocess.run(
        [sys.executable, "-P", answer.__file__], cwd=folder, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines() == lines
