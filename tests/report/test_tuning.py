"""What a search chose stands beside the default, with what it brought."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from stages.pages.catalogues import named
from stages.pages.language import ENGLISH
from stages.report import markdown_summary
from stages.report.runs import Run
from stages.report.tuning import history, parallel, tuning
from tests.support import artefacts, material

GAIN = {"baseline_accuracy": 0.7, "gain": 0.0412, "low": -0.01, "high": 0.09, "p": 0.2}


@pytest.fixture
def runs() -> list[Run]:
    """Return two backbones that were searched, the second one in vain, and one that was not."""
    one, other, third = artefacts.nine()[:3]
    return [artefacts.searched(one, gain=GAIN), artefacts.searched(other), third]


def test_what_was_searched_is_told_with_default_choice_and_gain(runs: list[Run]) -> None:
    found = tuning(runs, ENGLISH)
    assert found
    assert [row.run.backbone for row in found.rows] == [run.backbone for run in runs[:2]]
    assert found.names == ["learning rate", "optimiser", "units", "dropout"]
    assert found.measure == "log loss"
    first, second = found.rows
    assert first.gain == GAIN
    assert first.chosen_measure < first.default_measure
    assert first.values[2] == ("512", None)
    rate, became = first.values[0]
    assert became not in (None, rate)
    assert second.gain is None
    assert {after for _, after in second.values} == {None}


def test_without_a_search_there_is_nothing_to_tell(runs: list[Run]) -> None:
    assert tuning(runs[2:], ENGLISH) is None


@pytest.mark.parametrize(("measure", "sign"), [("log_loss", -1), ("accuracy", 1)])
def test_the_history_has_the_completed_trials_and_the_best_so_far(runs: list[Run], measure: str, sign: int) -> None:
    run = replace(runs[0], search=runs[0].search | {"measure": measure})
    rows = history(run)
    assert [row["trial"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12]
    assert all(
        row["best"] == max(sign * other["value"] for other in rows[: at + 1]) * sign for at, row in enumerate(rows)
    )


def test_trials_lie_between_the_ends_of_each_axis_and_the_best_are_last(runs: list[Run]) -> None:
    rows = parallel(runs[0])
    assert len(rows) == 11 * 4
    for key in ("learning_rate", "optimizer", "units", "dropout"):
        places = [row["at"] for row in rows if row["key"] == key]
        assert (min(places), max(places)) == (0, 1)
    assert [row["order"] for row in rows] == sorted((row["order"] for row in rows), reverse=True)
    best = runs[0].trials["log_loss"].idxmin() + 1
    assert {row["trial"] for row in rows[-4:]} == {best}


@pytest.mark.parametrize("language", ["en", "es"])
def test_page_and_summary_tell_of_it(tmp_path: Path, runs: list[Run], language: str) -> None:
    found = material.evidence(runs)
    page = material.page(tmp_path, found, named(language))
    (section,) = re.findall(r'<section[^>]*aria-labelledby="tuning".*?</section>', page, re.DOTALL)
    assert section.count('class="figure"') == 4
    whole = material.material(tmp_path / "other", found, named(language))
    text = markdown_summary.markdown(whole, named(language))
    assert ("| 4.1 |" if language == "en" else "| 4,1 |") in text
    assert all(runs[0].backbone in part for part in (section, text))
    assert runs[2].backbone not in section


def test_nothing_is_said_where_nothing_was_searched(tmp_path: Path, runs: list[Run]) -> None:
    assert 'aria-labelledby="tuning"' not in material.page(tmp_path, material.evidence(runs[2:]))
