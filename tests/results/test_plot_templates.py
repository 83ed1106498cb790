"""DVC can fill our templates with the tables that compare writes, for one revision and for two."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dvc_render.vega import VegaRenderer

from stages.results import runs
from tests.results import artefacts

TEMPLATES = Path(__file__).parents[2] / ".dvc/plots"
TWO = ("cat", "dog")


def tables() -> dict[str, pd.DataFrame]:
    table = artefacts.answers(["cat", "dog", "dog"], ["cat", "cat", "dog"], TWO)
    found = [artefacts.run(name, table, TWO) for name in ("vgg16", "scratch")]
    return {
        "learning_curves": runs.learning_curves(found),
        "confusion_by_backbone": runs.confusion(found),
        "intervals": runs.accuracies(found),
    }


def fields(spec: Any) -> set[str]:
    """Return every column that a specification draws."""
    if isinstance(spec, list):
        return set().union(*map(fields, spec))
    if not isinstance(spec, dict):
        return set()
    own = {spec["field"]} if isinstance(spec.get("field"), str) else set()
    return own.union(*(fields(value) for key, value in spec.items() if key != "values"))


@pytest.mark.parametrize(
    ("template", "x", "y"),
    [
        ("learning_curves", "epoch", "val_accuracy"),
        ("learning_curves", "epoch", "val_loss"),
        ("confusion_by_backbone", "predicted", "actual"),
        ("intervals", "accuracy", "backbone"),
    ],
)
@pytest.mark.parametrize("revisions", [["workspace"], ["HEAD~1", "workspace"]])
def test_a_template_draws_all_backbones_and_revisions(template: str, x: str, y: str, revisions: list[str]) -> None:
    table = tables()[template].astype(str)
    rows = [row | {"rev": revision} for revision in revisions for row in table.to_dict("records")]
    filled = VegaRenderer(rows, template, template=template, template_dir=str(TEMPLATES), x=x, y=y)
    spec = filled.get_filled_template()
    values = spec["data"]["values"]
    assert {(row["backbone"], row["rev"]) for row in values} == {
        (name, revision) for name in ("vgg16", "scratch") for revision in revisions
    }
    assert not re.search("<DVC_METRIC_", json.dumps(spec))
    assert fields(spec) <= set(values[0])
    assert {"backbone", "rev", x, y} <= fields(spec)
