"""Predictions are text in each format, whatever names files and classes have."""

import csv

import numpy as np
import pytest

from stages.predict.formats import FORMATS, Batch


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+1", "-rf", "@SUM(1)", "'x"])
def test_a_name_that_a_spreadsheet_takes_for_a_formula_is_text_in_csv(name: str) -> None:
    batch = Batch([f"{name}/1.jpg"], np.zeros((1, 2, 2, 3), np.uint8), np.array([[1, 0]], np.float32), np.zeros((1, 3)))
    header, row = csv.reader("".join(FORMATS["csv"]([name, "tree"], [batch])).splitlines())
    assert header == ["path", "label", "confidence", f"p:{name}", "p:tree"]
    assert row == [f"'{name}/1.jpg", f"'{name}", "1", "1", "0"]
