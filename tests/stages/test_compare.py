"""Stage compare reads what is declared and no more, and writes numbers, plots and pages from it."""

import base64
import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from stages import compare, evaluate
from stages.core import files, params
from stages.core.errors import DataError, ParameterError
from stages.report.provenance import digest
from stages.report.runs import COMPARED, SUMMARY
from tests.support import artefacts

OUTPUTS = [
    "data/metrics.json",
    "data/plots/accuracy.csv",
    "data/plots/calibration.csv",
    "data/plots/confusion.csv",
    "data/plots/learning_curves.csv",
    "data/plots/pairwise_comparison.csv",
    "data/plots/recall.csv",
    "data/plots/training_shares.csv",
    "data/summary/vgg16.json",
    "data/report/comparison.html",
    "data/report/comparison.md",
]


def declare(root: Path, backbones: list[str]) -> None:
    artefacts.write_params(root, backbones)
    params.read.cache_clear()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project in which three backbones were trained, evaluated and measured."""
    root = tmp_path_factory.mktemp("evaluated")
    artefacts.write_data(root, artefacts.POSES, {"cannot be read": 1})
    declare(root, ["vgg16", "resnet50", "scratch"])
    for seed, name in enumerate(("vgg16", "resnet50", "scratch")):
        right, latency, parameters, weights = artefacts.NINE[name]
        artefacts.write_model(root, name, artefacts.POSES, artefacts.predictions(artefacts.POSES, right, seed), weights)
        files.write_json(root / f"data/benchmarks/{name}.json", artefacts.benchmark(latency, parameters))
    with contextlib.chdir(root):
        evaluate.main()
    yield root
    params.read.cache_clear()


@pytest.fixture(scope="module")
def compared(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it in which compare has run, for tests that only look."""
    root = tmp_path_factory.mktemp("compared") / "project"
    shutil.copytree(evaluated, root)
    params.read.cache_clear()
    with contextlib.chdir(root):
        compare.main()
    return root


@pytest.fixture
def project(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it to work in."""
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    params.read.cache_clear()
    yield tmp_path
    params.read.cache_clear()


def contents(root: Path) -> list[bytes]:
    return [(root / name).read_bytes() for name in OUTPUTS]


def test_all_outputs_are_written_twice_the_same_in_any_folder(project: Path, compared: Path) -> None:
    compare.main()
    compare.main()
    assert contents(project) == contents(compared)


def test_the_metrics_are_those_of_evaluate_and_the_best_is_named(compared: Path) -> None:
    found = files.read_json(compared / "data/metrics.json")
    assert list(found) == ["best", "measure", "recommended", "resnet50", "scratch", "vgg16"]
    evaluated = files.read_json(compared / "data/evaluations/vgg16/metrics.json")
    assert found["vgg16"].items() >= {key: evaluated[key] for key in SUMMARY}.items()
    assert found["vgg16"]["val_accuracy"] == evaluated["validation"]["accuracy"]
    assert sum(found[name]["selected_in_resamples"] for name in ("vgg16", "resnet50", "scratch")) == pytest.approx(1)
    assert found["best"] == max(("vgg16", "resnet50", "scratch"), key=lambda name: found[name]["accuracy"])
    assert found["scratch"]["weights"] == "none"


def test_each_backbone_has_a_file_of_the_few_figures_that_are_compared(project: Path, compared: Path) -> None:
    metrics = files.read_json(compared / "data/metrics.json")
    shown = {path.stem: files.read_json(path) for path in (compared / "data/summary").iterdir()}
    assert shown == {name: {key: metrics[name][key] for key in COMPARED} for name in ("vgg16", "resnet50", "scratch")}
    files.write_json(Path("data/summary/gone.json"), {})
    compare.main()
    assert not Path("data/summary/gone.json").exists()


def test_plots_hold_every_backbone_in_the_order_of_the_parameters(compared: Path) -> None:
    for name in ("accuracy", "calibration", "confusion", "learning_curves", "recall", "training_shares"):
        table = pd.read_csv(compared / f"data/plots/{name}.csv")
        assert table["backbone"].unique().tolist() == ["vgg16", "resnet50", "scratch"]


def test_all_pairs_are_compared_on_the_test_images(compared: Path) -> None:
    table = pd.read_csv(compared / "data/plots/pairwise_comparison.csv")
    assert table[["first", "second"]].to_numpy().tolist() == [
        ["vgg16", "resnet50"],
        ["vgg16", "scratch"],
        ["resnet50", "scratch"],
    ]
    metrics = files.read_json(compared / "data/metrics.json")
    lead = metrics["vgg16"]["accuracy"] - metrics["scratch"]["accuracy"]
    assert table["difference"][1] == pytest.approx(lead, abs=1e-8)
    assert (table["p_holm"] >= table["p"]).all()


def test_the_short_report_says_the_verdict_and_where_the_numbers_come_from(compared: Path) -> None:
    text = (compared / "data/report/comparison.md").read_text(encoding="utf-8")
    assert "**These numbers must not be used to choose: 2 of 3 backbones carry random weights.**" in text
    manifest = pd.read_csv(compared / "data/manifest.csv")
    assert digest([manifest], "label", "sha256") in text
    assert "- Default parameters that are left out: `data.checksum`, " in text


def test_how_far_answers_are_from_those_in_float32_stands_in_both_reports(project: Path) -> None:
    found = {"precision": "bfloat16", "images": 50, "differing": 3, "right": -1}
    files.write_json(project / "data/explanations/vgg16/precision.json", found)
    compare.main()
    for name in ("comparison.md", "comparison.html"):
        text = (project / "data/report" / name).read_text(encoding="utf-8")
        assert "in float32 predictions differ for 3 of 50 test images of" in text
        assert "(accuracy +2.0 points)" in text


def test_the_report_is_in_the_language_that_the_parameters_ask_for(project: Path) -> None:
    artefacts.write_params(project, ["vgg16", "resnet50", "scratch"], "es")
    params.read.cache_clear()
    compare.main()
    text = (project / "data/report/comparison.md").read_text(encoding="utf-8")
    assert "**Estos números no deben usarse para elegir: 2 de 3 redes llevan pesos aleatorios.**" in text


def fold(root: Path, count: int) -> None:
    """Evaluate all three backbones again with the images in so many folds."""
    for seed, name in enumerate(("vgg16", "resnet50", "scratch")):
        table = artefacts.predictions(artefacts.POSES, artefacts.NINE[name][0], seed)
        artefacts.write_model(root, name, artefacts.POSES, table, artefacts.NINE[name][3], count)
    evaluate.main()


def test_folds_stand_in_metrics_plots_and_report_as_long_as_there_are_folds(project: Path, compared: Path) -> None:
    without = contents(compared)
    assert not (compared / "data/plots/folds.csv").exists()
    fold(project, 5)
    compare.main()
    metrics = files.read_json(project / "data/metrics.json")
    table = pd.read_csv(project / "data/plots/folds.csv")
    for name in ("vgg16", "resnet50", "scratch"):
        accuracies = table.loc[table["backbone"] == name, "accuracy"]
        assert len(accuracies) == 5
        assert metrics[name]["folds_accuracy_mean"] == pytest.approx(accuracies.mean())
        assert metrics[name]["folds_accuracy_sd"] == pytest.approx(accuracies.std())
    assert b"Over 5 folds" in contents(project)[-2]
    assert b"Over 5 folds" in contents(project)[-1]
    assert contents(project)[1:-2] == without[1:-2]
    fold(project, 0)
    compare.main()
    assert contents(project) == without
    assert not (project / "data/plots/folds.csv").exists()


def test_a_backbone_that_is_no_longer_declared_disappears_everywhere(project: Path) -> None:
    declare(project, ["vgg16", "scratch"])
    compare.main()
    # But where the report names the parameters that differ from their defaults.
    assert all(b"resnet50" not in content.partition(b"Where the numbers come from")[0] for content in contents(project))


def test_timings_enter_no_metric_and_no_plot(project: Path, compared: Path) -> None:
    first = contents(compared)
    for name in ("vgg16", "resnet50", "scratch"):
        files.write_json(project / f"data/benchmarks/{name}.json", artefacts.benchmark(77.7, 1000))
    compare.main()
    assert contents(project)[:-2] == first[:-2]
    assert b"77.7" in contents(project)[-2]


def test_what_explain_and_ingest_made_stands_in_the_page(compared: Path) -> None:
    page = (compared / "data/report/comparison.html").read_text(encoding="utf-8")
    overlay = (compared / "data/explanations/vgg16/map_0.webp").read_bytes()
    assert base64.b64encode(overlay).decode() in page
    assert re.search(r'<span class="path" title="images/(\w+)/\d{4}.png">', page)


def test_without_shares_of_the_training_images_their_table_is_empty(project: Path) -> None:
    for name in ("vgg16", "resnet50", "scratch"):
        path = project / f"data/evaluations/{name}/metrics.json"
        files.write_json(path, files.read_json(path) | {"shares": [], "learning_curve": None})
    compare.main()
    assert (project / "data/plots/training_shares.csv").read_text().splitlines() == [
        "backbone,share,training_images,draws,accuracy,low,high"
    ]


def test_a_loss_that_left_the_numbers_is_an_empty_cell(project: Path) -> None:
    history = artefacts.history(1)
    history.loc[3:, ["loss", "val_loss"]] = float("nan")
    files.write_csv(project / "data/models/vgg16/history.csv", history)
    compare.main()
    table = pd.read_csv(project / "data/plots/learning_curves.csv")
    assert table.loc[table["backbone"] == "vgg16", "val_loss"].isna().sum() == 16


def test_everything_that_is_missing_is_named_with_the_command_that_makes_it(project: Path) -> None:
    (project / "data/benchmarks/vgg16.json").unlink()
    (project / "data/evaluations/scratch/metrics.json").unlink()
    (project / "data/evaluations/scratch/confusion.csv").unlink()
    with pytest.raises(DataError) as fault:
        compare.main()
    assert str(fault.value) == (
        "no data/benchmarks/vgg16.json, data/evaluations/scratch/metrics.json, data/evaluations/scratch/confusion.csv; "
        "expected the artefacts of every backbone in params.yaml; "
        "run 'dvc repro benchmark@vgg16 evaluate'"
    )
    assert not (project / "data/metrics.json").exists()


@pytest.mark.parametrize("text", ["backbones: {}\n", "backbones: [vgg16]\n", "backbones: null\n"])
def test_backbones_must_be_a_mapping_with_one_entry_at_least(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    params.read.cache_clear()
    with pytest.raises(ParameterError, match="a mapping with at least one backbone"):
        compare.main()
    params.read.cache_clear()


def test_numbers_are_plain_for_other_tools(compared: Path) -> None:
    json.loads((compared / "data/metrics.json").read_text(), parse_constant=pytest.fail)


def keep_linear(root: Path, *names: str) -> None:
    """Evaluate again with these backbones keeping their linear heads, as what is no candidate does."""
    for seed, name in enumerate(names):
        table = artefacts.predictions(artefacts.POSES, 0.8, seed)
        artefacts.write_model(root, name, artefacts.POSES, table, artefacts.NINE[name][3], kept="linear")
    evaluate.main()


def test_a_backbone_that_kept_its_linear_head_is_compared_like_all_others(project: Path) -> None:
    keep_linear(project, "resnet50")
    compare.main()
    assert set(files.read_json(project / "data/metrics.json")) == {
        "vgg16",
        "resnet50",
        "scratch",
        "best",
        "measure",
        "recommended",
    }
    assert set(pd.read_csv(project / "data/plots/accuracy.csv")["backbone"]) == {"vgg16", "resnet50", "scratch"}
    assert set(pd.read_csv(project / "data/plots/learning_curves.csv")["backbone"]) == {"vgg16", "scratch"}
    text = (project / "data/report/comparison.md").read_text(encoding="utf-8")
    assert "| `resnet50` | linear | yes |" in text
    page = (project / "data/report/comparison.html").read_text(encoding="utf-8")
    assert "Loss of vgg16 over its epochs." in page
    assert "Loss of resnet50 over its epochs." not in page


def test_where_nothing_was_trained_in_epochs_there_are_no_curves(project: Path) -> None:
    declare(project, ["vgg16", "resnet50"])
    keep_linear(project, "vgg16", "resnet50")
    compare.main()
    assert (project / "data/plots/learning_curves.csv").read_text().splitlines() == [
        "backbone,phase,epoch,accuracy,val_accuracy,loss,val_loss"
    ]
    assert "Learning curves" not in (project / "data/report/comparison.html").read_text(encoding="utf-8")


def test_without_a_ranking_the_command_that_makes_it_is_named(project: Path) -> None:
    (project / "data/ranking.csv").unlink()
    with pytest.raises(DataError, match=r"no data/ranking\.csv; .* run 'dvc repro rank'"):
        compare.main()


def test_a_ranking_of_other_backbones_is_one_line(project: Path) -> None:
    files.write_csv(project / "data/ranking.csv", artefacts.ranking(["vgg16", "scratch"]))
    with pytest.raises(DataError, match=r"data/ranking.csv without resnet50; .* run 'dvc repro rank'"):
        compare.main()


def test_a_ranking_by_another_measure_is_one_line(project: Path) -> None:
    ranking = artefacts.ranking(["vgg16", "resnet50", "scratch"])
    files.write_csv(project / "data/ranking.csv", ranking.drop(columns="accuracy"))
    with pytest.raises(DataError, match=r"data/ranking.csv without accuracy; .* run 'dvc repro rank'"):
        compare.main()


@pytest.mark.parametrize(
    ("measure", "key", "sign", "name"),
    [
        ("balanced_accuracy", "balanced_accuracy", 1, "balanced accuracy"),
        ("macro_f1", "macro_f1", 1, "macro F1"),
        ("log_loss", "log_loss_scaled", -1, "log loss after temperature scaling"),
        ("cost", "cost", -1, "mean cost"),
        ("recall:tree", "recall:tree", 1, "recall of `tree`"),
    ],
)
def test_another_measure_decides_from_evaluate_to_the_report(
    project: Path, measure: str, key: str, sign: int, name: str
) -> None:
    artefacts.write_params(project, ["vgg16", "resnet50", "scratch"], measure=f"'{measure}'")
    text = (project / "params.yaml").read_text().replace("costs: {}", "costs: {tree: {plank: 7}}")
    (project / "params.yaml").write_text(text)
    ranking = artefacts.ranking(["vgg16", "resnet50", "scratch"])
    files.write_csv(project / "data/ranking.csv", ranking.assign(**{key: ranking["accuracy"]}))
    params.read.cache_clear()
    evaluate.main()
    compare.main()
    found = files.read_json(project / "data/metrics.json")
    assert found["measure"] == measure
    assert found.get("costs") == ({"tree": {"plank": 7}} if measure == "cost" else None)
    backbones = ("vgg16", "resnet50", "scratch")
    assert found["best"] == max(backbones, key=lambda backbone: sign * found[backbone][key])
    for backbone in backbones:
        assert {f"{key}_low", f"{key}_high", f"val_{key}", "accuracy"} <= set(found[backbone])
        low, high = (found[backbone][f"{key}_{end}"] for end in ("low", "high"))
        assert low is None or low < found[backbone][key] < high
        shown = files.read_json(project / f"data/summary/{backbone}.json")
        assert shown == {name: found[backbone][name] for name in dict.fromkeys((*COMPARED, key, f"val_{key}"))}
    chosen = found["recommended"] or found["best"]
    assert f"{key}_of_selection" in found[chosen]
    pairs = pd.read_csv(project / "data/plots/pairwise_comparison.csv").set_index(["first", "second"])
    ahead = sign * (found["vgg16"][key] - found["scratch"][key])
    assert pairs.loc[("vgg16", "scratch"), "difference"] == pytest.approx(ahead)
    summary = (project / "data/report/comparison.md").read_text()
    assert f"| | backbone | {name} | 95 % confidence interval | accuracy |" in summary
    assert f"{name} of `" in summary or f"best by {name} is `" in summary
    assert "higher accuracy" not in summary
    page = (project / "data/report/comparison.html").read_text()
    assert page.count("Predictions here are the most probable classes;") == (2 if measure == "cost" else 0)
    assert "had not seen it (95" in page
    assert "interval: Wilson" not in page
    assert re.search(rf"Ranked, tested and chosen by {name.split(maxsplit=1)[0]}.* \(report\.measure\)\.", page)


def test_results_that_another_measure_decided_are_not_reported(project: Path) -> None:
    artefacts.write_params(project, ["vgg16", "resnet50", "scratch"], measure="macro_f1")
    params.read.cache_clear()
    with pytest.raises(DataError, match=r"'vgg16' was scored by accuracy; expected report\.measure = macro_f1"):
        compare.main()
