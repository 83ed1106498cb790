"""By whatever measure the verdict is drawn, page and summary say it in every language, and escape it once."""

import re
from pathlib import Path

import pytest

from stages.core.measure import Measure
from stages.core.settings.report import MEASURES
from stages.pages import catalogues
from stages.report import markdown_summary
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
