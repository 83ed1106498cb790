"""DVC can fill our templates with the tables that compare writes, for one revision and for two."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dvc_render.vega import VegaRenderer

from stages.core import files
from stages.report import runs
from stages.statistics.pairwise import all_pairs
from tests.support import artefacts

TEMPLATES = Path(__file__).parents[2] / ".dvc/plots"
TWO = ("cat", "dog")


def tables() -> dict[str, pd.DataFrame]:
    table = artefacts.answers(["cat", "dog", "dog"], ["cat", "cat", "dog"], TWO)
    found = [artefacts.run(name, table, TWO) for name in ("vgg16", "scratch")]
    return {
        "learning_curves": runs.learning_curves(found),
        "confusion_by_backbone": runs.confusion(found),
        "intervals": runs.accuracies(found),
        "training_shares": runs.training_shares(found),
        "recall": runs.recalls(found),
        "reliability": runs.calibrations(found),
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
        ("training_shares", "training_images", "accuracy"),
        ("recall", "backbone", "class"),
        ("reliability", "confidence", "accuracy"),
    ],
)
@pytest.mark.parametrize("revisions", [["workspace"], ["HEAD~1", "workspace"]])
def test_a_template_draws_all_backbones_and_revisions(template: str, x: str, y: str, revisions: list[str]) -> None:
    table = tables()[template].astype(str)
    spec = filled(table, template, x, y, revisions)
    values = spec["data"]["values"]
    assert {(row["backbone"], row["rev"]) for row in values} == {
        (name, revision) for name in ("vgg16", "scratch") for revision in revisions
    }
    assert fields(spec) <= {*values[0], "at"}
    assert {"backbone", "rev", x, y} <= fields(spec)


def test_the_template_of_pairs_draws_all_pairs_and_revisions() -> None:
    table = all_pairs(artefacts.outcomes(artefacts.nine()[:3]), 0.95)
    spec = filled(table.astype(str), "pairwise_comparison", "second", "first", ["HEAD~1", "workspace"])
    values = spec["data"]["values"]
    assert len({(row["first"], row["second"], row["rev"]) for row in values}) == 3 * 2
    assert fields(spec) <= set(values[0])
    assert {"first", "second", "rev", "difference", "p_holm"} <= fields(spec)


def test_a_table_of_learning_curves_without_rows_stops_no_plot(tmp_path: Path) -> None:
    table = artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO)
    linear = artefacts.run("a", table, TWO, provenance=artefacts.provenance("a", TWO, 1000, "imagenet", "linear"))
    files.write_csv(tmp_path / "curves.csv", runs.learning_curves([linear]))
    files.write_csv(tmp_path / "accuracy.csv", runs.accuracies([linear]))
    (tmp_path / "dvc.yaml").write_text(
        "plots:\n"
        "- curves: {template: learning_curves, x: {curves.csv: epoch}, y: {curves.csv: val_loss}}\n"
        "- scores: {template: intervals, x: {accuracy.csv: accuracy}, y: {accuracy.csv: backbone}}\n"
    )
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--force", "--quiet"], cwd=tmp_path, check=True)
    shutil.copytree(TEMPLATES, tmp_path / ".dvc/plots", dirs_exist_ok=True)
    subprocess.run([*dvc, "plots", "show"], cwd=tmp_path, check=True)
    assert "scores" in (tmp_path / "dvc_plots/index.html").read_text()


def filled(table: pd.DataFrame, template: str, x: str, y: str, revisions: list[str]) -> dict[str, Any]:
    """Return what DVC makes of a template, a table and revisions; every name that it knows is replaced."""
    rows = [row | {"rev": revision} for revision in revisions for row in table.to_dict("records")]
    renderer = VegaRenderer(rows, template, template=template, template_dir=str(TEMPLATES), x=x, y=y)
    spec = renderer.get_filled_template()
    assert not re.search("<DVC_METRIC_", json.dumps(spec))
    return dict(spec)
