"""By whatever measure the verdict is drawn, page and summary say it in every language, and escape it once."""

import re
from pathlib import Path

import pytest

from stages.core.measure import Measure
from stages.core.settings.report import MEASURES
from stages.pages import catalogues
from stages.pages.language import ENGLISH
from stages.report import markdown_summary
from stages.report.verdict import Evidence
from stages.report.verdict_notes import notes
from tests.support import artefacts, material
from tests.support.contest import evidence

SHARES = ("accuracy", "balanced_accuracy", "recall:cat")
# A sentence with an apostrophe, which is escaped.
LEAKS = {"groups": 1, "images": 2, "test": 2, "split_used": True}


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("measure", [*MEASURES, "recall:cat"])
def test_the_difference_that_is_detected_is_written_in_the_unit_of_the_measure(
    measure: str, language: str, tmp_path: Path
) -> None:
    spoken, found = catalogues.named(language), evidence({"a": range(10), "b": range(40)}, measure=Measure(measure))
    assert found.verdict.chosen
    page = material.page(tmp_path, found, spoken)
    detected = {"en": "detect a difference of (.*?) with", "es": "detectan una diferencia de (.*?) con"}[language]
    (amount,) = re.findall(detected, page)
    least = found.verdict.detectable
    said = f"{100 * least:.1f} {'points' if language == 'en' else 'puntos'}" if measure in SHARES else f"{least:.3f}"
    assert amount == (said if language == "en" else said.replace(".", ","))
    assert "**" in markdown_summary.markdown(material.material(tmp_path, found, spoken), spoken)


@pytest.mark.parametrize("language", ["en", "es"])
def test_what_the_audit_found_is_escaped_once(language: str, tmp_path: Path) -> None:
    found = evidence({"a": (), "b": range(30)}, audit=artefacts.audit(small_classes={"<cat>": 4}, leaks=LEAKS))
    page = material.page(tmp_path, found, catalogues.named(language))
    assert "&lt;cat&gt;" in page
    assert not re.search(r"&amp;(#\d+|\w+);", page)


def few(measure: str) -> Evidence:
    """Return the evidence of two backbones on three test images of each of 20 classes."""
    classes = tuple(f"class {number}" for number in range(20))
    actual = [name for name in classes for _ in range(3)]
    runs = []
    for name, wrong in (("a", 6), ("b", 40)):
        predicted = [classes[0]] * wrong + actual[wrong:]
        table = artefacts.answers(actual, predicted, classes)
        runs.append(artefacts.run(name, table, classes, measure=Measure(measure)))
    return material.evidence(runs)


def test_macro_f1_of_few_images_a_class_has_no_interval_anywhere_and_once_the_reason(tmp_path: Path) -> None:
    found = few("macro_f1")
    assert (found.resampled.value, found.resampled.interval) == (None, None)
    said = [str(note) for note in notes(found, ENGLISH)]
    assert sum("no confidence interval here: with fewer than 10 test images a class" in note for note in said) == 1
    assert not any("confidence interval 0." in note for note in said)
    assert few("balanced_accuracy").resampled.interval
    assert evidence({"a": range(10), "b": range(40)}, measure=Measure("macro_f1")).resampled.interval


def test_macro_f1_has_one_column_where_it_decides(tmp_path: Path) -> None:
    found = few("macro_f1")
    lines = markdown_summary.markdown(material.numbers(found), ENGLISH).splitlines()
    (first,) = [number for number, line in enumerate(lines) if "| accuracy |" in line and "latency" in line]
    assert lines[first].count("macro F1") == 1
    assert len({line.count("|") for line in lines[first : first + 4]}) == 1
    page = material.page(tmp_path, found)
    ranking = page[page.index('aria-labelledby="ranking" tabindex') :]
    head = ranking[: ranking.index("</thead>")]
    assert head.count("macro F1") == 1
    row = ranking[ranking.index("<tbody>") :]
    row = row[: row.index("</tr>")]
    assert head.count("<th ") == len(re.findall("<t[dh]", row))
