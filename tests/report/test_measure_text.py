"""The measure that decides is called the same in the report and in what programs print."""

import pytest

from stages.core.measure import Measure
from stages.core.settings.report import MEASURES
from stages.pages.language import ENGLISH
from stages.report.measure_text import display_name


@pytest.mark.parametrize("name", [*MEASURES, "recall:tree"])
def test_a_measure_has_one_name_in_english(name: str) -> None:
    assert str(display_name(Measure(name), ENGLISH)) == Measure(name).words
