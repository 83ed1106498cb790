"""Predictions are text in each format, whatever names files and classes have."""

import csv
import json

import numpy as np
import pytest

from stages.predict.formats import FORMATS, Batch


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+1", "-rf", "@SUM(1)", "'x"])
def test_a_name_that_a_spreadsheet_takes_for_a_formula_is_text_in_csv(name: str) -> None:
    batch = Batch([f"{name}/1.jpg"], np.zeros((1, 2, 2, 3), np.uint8), np.array([[1, 0]], np.float32), np.zeros((1, 3)))
    header, row = csv.reader("".join(FORMATS["csv"]([name, "tree"], [batch], None)).splitlines())
    assert header == ["path", "label", "confidence", f"p:{name}", "p:tree"]
    assert row == [f"'{name}/1.jpg", f"'{name}", "1", "1", "0"]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_with_costs_the_class_of_least_expected_cost_stands_beside_the_most_probable_one(form: str) -> None:
    probabilities = np.array([[0.8, 0.2], [0.99, 0.01]], np.float32)
    batch = Batch(["a.jpg", "b.jpg"], np.zeros((2, 2, 2, 3), np.uint8), probabilities, np.zeros((2, 3), np.float32))
    costs = np.array([[0.0, 1.0], [20.0, 0.0]])
    text = "".join(FORMATS[form](["fine", "ill"], [batch], costs))
    if form == "json":
        assert [row["decision"] for row in json.loads(text)] == ["ill", "fine"]
    elif form == "csv":
        assert [row["decision"] for row in csv.DictReader(text.splitlines())] == ["ill", "fine"]
    else:
        assert [line.split() for line in text.splitlines()] == [
            ["label", "confidence", "decision", "path"],
            ["fine", "80.0", "%", "ill", "a.jpg"],
            ["fine", "99.0", "%", "fine", "b.jpg"],
        ]
    assert "decision" not in "".join(FORMATS[form](["fine", "ill"], [batch], None))
