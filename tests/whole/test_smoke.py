"""The whole graph, small and for real: what DVC runs, what it leaves alone, and what comes out.

Two clones of the project live through a story each, side by side; one begins by `dvc repro`, the other by
the flow. The tests then look at what was noted on the way. Backbones are tiny, images few, and the
weights random by the shipped policy.
"""

import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from stages.check import OF_BACKBONES
from tests.support.clone import Clone, Done
from tests.support.images import draw

SMALL: dict[str, Any] = {
    "data": {"source": "images"},
    "preprocess": {"sizes": [32, 64], "views": 1},
    # A folder without weights stands for a network without an answer.
    "weights": {"mirror": "no_weights_here", "if_unreachable": "random"},
    "finetune": {
        # What is declared is kept, so that its parameters show in the metrics.
        "linear": {"c": [1, 10]},
        "head": {"units": [16], "choose": "declared"},
        "epochs": 3,
        "batch_size": 16,
        "unfreeze": {"epochs": 1},
        "repeats": 1,
        "training_shares": [0.5],
    },
    "rank": {"candidates": "all"},
    "benchmark": {"warmup": 1, "repeats": 3, "batch_sizes": [4]},
    "export": {"formats": ["keras", "openvino"], "latency_repeats": 2},
}
SMALLEST = "mobilenet_v3_small: {input_size: 32, unfreeze: {blocks: 0}}"
# The dropout of its own leaves it alone where that of all others changes.
SCRATCH = (
    "scratch: {input_size: 32, arguments: {filters: [8]}, head: {pooling: flatten, units: [%d], dropout: 0.5}, "
    "unfreeze: {epochs: 2, learning_rate: 0.001}, training_shares: []}"
)
BOTH = ("mobilenet_v3_small", "scratch")
# A builder of keras.applications that the shipped params.yaml does not name.
OTHER = "MobileNet"
# What a user may get wrong, as changes of params.yaml.
FAULTS: dict[str, dict[str, Any]] = {
    "key": {"finetune": {"dropout": 0.5}},
    "missing": {"data": {"source": "nowhere"}},
    "single class": {"data": {"source": "one_class"}},
}
AUDIT = "data/report/audit.html"
# What the columns of `dvc exp show` that hold hashes begin with, as docs/recipes.md leaves them out.
HASHES = "data/(?!summary/)"
# What two clones must agree on to the last byte.
SAME = (
    "data/manifest.csv", "data/rejects.csv", "data/raw", "data/quarantine", "data/splits.csv", "data/leaks.csv",
    "data/recipes", "data/prepared", "data/weights", "data/features", "data/probes", "data/ranking.csv",
    "data/rankings", "data/candidates", "data/audit.json", "data/suspects.csv", AUDIT, "data/views", "data/tuning",
    "data/models", "data/evaluations", "data/explanations", "data/metrics.json", "data/summary", "data/plots",
    "data/exports",
)  # fmt: skip
HTML, MARKDOWN = "data/report/comparison.html", "data/report/comparison.md"
# Stages that read which backbones are declared.
OF_ALL = {"check", "rank", "candidates", "audit", "tune", "evaluate", "compare"}
# Stages of a backbone that read nothing of how it is trained.
FROZEN = ("weights", "features", "probe", "benchmark")


def stages(backbone: str, *left_out: str) -> set[str]:
    """Return the stages of a backbone, without those `left_out`."""
    own = {"weights", "features", "probe", "views", "unfreeze", "finetune", "explain", "benchmark"}
    return {f"{stage}@{backbone}" for stage in own.difference(left_out)}


@dataclass
class Changes:
    """What the first clone's story left: parameters change, one after the other."""

    clone: Clone
    start: Done
    files: dict[str, str]
    metrics: dict[str, Any]
    html: str
    markdown: str
    audit: str
    again: Done
    tracked: list[str]
    dropout: Done
    experiments: Done
    few: Done
    workspace: dict[str, Done]
    history: dict[str, Done]
    removed: Done
    removed_metrics: dict[str, Any]
    removed_html: str
    augmentation: Done


@dataclass
class Sharing:
    """What the second clone's story left: another user pulls its work, then meets bad input; backbones change."""

    clone: Clone
    start: Done
    files: dict[str, str]
    pushed: Done
    pulled: Done
    status: Done
    after_pull: Done
    pulled_files: dict[str, str]
    faults: dict[str, Done]
    added: Done
    added_metrics: dict[str, Any]
    added_html: str


def live_through_changes(clone: Clone) -> Changes:
    start = clone.dvc("repro")
    files, metrics = clone.digests(*SAME), json.loads(clone.text("data/metrics.json"))
    html, markdown, audit = clone.text(HTML), clone.text(MARKDOWN), clone.text(AUDIT)
    clone.commit("first run")
    tracked = clone.git("ls-files", "data").split()
    again = clone.dvc("repro")

    # From here on only as much is run as there is a question about: another export would take longer than all the rest.
    dropout = clone.dvc("exp", "run", "-S", "finetune.head.dropout=0.3", "compare")
    experiments = clone.dvc("exp", "show", "--csv")
    few = clone.dvc("exp", "show", "--csv", "--only-changed", "--drop", HASHES)
    workspace = {"metrics": clone.dvc("metrics", "diff"), "params": clone.dvc("params", "diff")}
    clone.commit("less dropout")
    history = {
        "metrics show": clone.dvc("metrics", "show"),
        "metrics diff": clone.dvc("metrics", "diff", "--all", "HEAD~1"),
        "plots show": clone.dvc("plots", "show", "--out", "shown"),
        "plots diff": clone.dvc("plots", "diff", "--out", "compared", "HEAD~1"),
        "plots json": clone.dvc("plots", "diff", "--json", "HEAD~1"),
    }

    clone.backbones(SMALLEST)
    removed = clone.dvc("repro", "compare")
    removed_metrics, removed_html = json.loads(clone.text("data/metrics.json")), clone.text(HTML)
    clone.set({"preprocess": {"augmentation": {"rotation": 30}}})
    augmentation = clone.dvc("repro", "explain@mobilenet_v3_small", "benchmark@mobilenet_v3_small")
    return Changes(
        clone, start, files, metrics, html, markdown, audit, again, tracked, dropout, experiments, few, workspace,
        history, removed, removed_metrics, removed_html, augmentation,
    )  # fmt: skip


def live_through_sharing(clone: Clone) -> Sharing:
    start = clone.flow("--jobs", "2")
    files = clone.digests(*SAME)
    clone.dvc("remote", "add", "--default", "storage", str(clone.folder.parent / "storage"))
    clone.commit("first run")
    pushed = clone.dvc("push")
    other = clone.clone(clone.folder.parent / "other")
    pulled, status, after_pull = other.dvc("pull"), other.dvc("status"), other.dvc("repro")
    pulled_files = other.digests(*SAME)
    faults = {name: meet(other, changes) for name, changes in FAULTS.items()}

    clone.backbones(SMALLEST, SCRATCH % 8, f"{OTHER}: {{}}")
    added = clone.dvc("repro", "compare")
    added_metrics, added_html = json.loads(clone.text("data/metrics.json")), clone.text(HTML)
    return Sharing(
        clone, start, files, pushed, pulled, status, after_pull, pulled_files, faults, added, added_metrics, added_html
    )


def meet(clone: Clone, changes: dict[str, Any]) -> Done:
    """Run the graph with faulty parameters; leave the clone's own behind."""
    (clone.folder / "one_class/only").mkdir(parents=True, exist_ok=True)
    image = clone.folder / "images/disc/00.jpg"
    (clone.folder / "one_class/only/00.jpg").write_bytes(image.read_bytes())
    clone.set(changes)
    done = clone.dvc("repro")
    clone.git("checkout", "--quiet", "params.yaml", "dvc.lock")
    return done


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Changes, Sharing]:
    """Live through both stories at the same time, each in a clone of the same commit."""
    place = tmp_path_factory.mktemp("smoke")
    project = Clone.of_project(place / "project")
    draw(project.folder / "images")
    project.set(SMALL)
    project.backbones(SMALLEST, SCRATCH % 16)
    project.commit("start")
    # Folders of different depth: a path that found its way into a file would tell.
    first, second = project.clone(place / "first"), project.clone(place / "a/second/clone")
    with ThreadPoolExecutor(2) as pool:
        changes, sharing = pool.submit(live_through_changes, first), pool.submit(live_through_sharing, second)
    return changes.result(), sharing.result()


@pytest.fixture
def changes(stories: tuple[Changes, Sharing]) -> Changes:
    return stories[0]


@pytest.fixture
def sharing(stories: tuple[Changes, Sharing]) -> Sharing:
    return stories[1]


def test_the_first_run_runs_every_stage_and_makes_every_artefact(changes: Changes) -> None:
    assert changes.start.code == 0, changes.start.errors
    assert changes.start.ran == {"ingest", "split", "preprocess", "export@winner"}.union(OF_ALL, *map(stages, BOTH))
    for name in BOTH:
        assert f"data/models/{name}/head.npz" in changes.files
        assert {"metrics.json", "confusion.csv", "calibration.csv", "calibration_scaled.csv"} == {
            path.rpartition("/")[2] for path in changes.files if path.startswith(f"data/evaluations/{name}/")
        }
    assert "data/views/mobilenet_v3_small/preview.png" in changes.files
    assert "data/exports/winner/model.keras" in changes.files


def test_no_frozen_weights_are_copied(changes: Changes) -> None:
    trained = [path for path in changes.files if path.startswith("data/models/") and path.endswith(".keras")]
    assert trained == ["data/models/scratch/top.keras"]


def test_metrics_hold_every_backbone_and_the_best(changes: Changes) -> None:
    assert set(changes.metrics) == {*BOTH, "best", "recommended", "measure"}
    assert changes.metrics["best"] in BOTH
    for name in BOTH:
        found = changes.metrics[name]
        assert {"accuracy", "accuracy_low", "accuracy_high", "macro_f1", "log_loss", "ece"} <= set(found)
        assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]


def test_random_weights_are_said_wherever_a_number_stands(changes: Changes) -> None:
    assert "mobilenet_v3_small: RANDOM WEIGHTS, as weights.if_unreachable says" in changes.start.errors
    assert [changes.metrics[name]["weights"] for name in BOTH] == ["random", "none"]
    evaluation = json.loads(changes.clone.text("data/evaluations/mobilenet_v3_small/metrics.json"))
    assert evaluation["weights"] == "random"
    for page in (changes.html, changes.markdown):
        assert "must not be used to choose" in page
        assert "1 of 2 backbones carries random weights" in page
        assert "no_weights_here" in page


def test_the_page_asks_no_network_for_anything(changes: Changes) -> None:
    # References within the page, as figures have them, begin with #; the audit lies beside it.
    fetched = r"""(?:src|srcset|href|action|poster)\s*=\s*(?!["']?(?:#|audit\.html"|data:image/))|url\((?!#)"""
    # What the page's own scripts may do is for its policy to say; tests/pages/test_pages.py lets them run.
    unscripted = re.sub("<script.*?</script>", "", changes.html, flags=re.DOTALL)
    assert not re.findall(fetched, unscripted + changes.audit)
    assert not re.findall(r"<(?:script|link|iframe|object|embed)|@import", unscripted + changes.audit)


def test_a_broken_image_is_left_out_by_name_and_copies_stay_together(changes: Changes) -> None:
    rejects = list(csv.DictReader(io.StringIO(changes.clone.text("data/rejects.csv"))))
    assert [row["path"] for row in rejects] == ["disc/broken.jpg"]
    assert rejects[0]["reason"]
    rows = list(csv.DictReader(io.StringIO(changes.clone.text("data/splits.csv"))))
    copies = [row for row in rows if [other["group"] for other in rows].count(row["group"]) > 1]
    assert len(copies) == 2
    assert len({row["split"] for row in copies}) == 1


def test_git_keeps_metrics_plots_and_report_and_dvc_the_rest(changes: Changes) -> None:
    kept = {name for name in changes.tracked if not name.endswith((".gitignore", "README.md"))}
    assert {name.split("/")[1] for name in kept} == {"audit.json", "metrics.json", "plots", "report", "summary"}


def test_a_second_run_runs_nothing(changes: Changes) -> None:
    assert changes.again.ran == set()
    assert "Data and pipelines are up to date." in changes.again.output


def test_another_dropout_computes_no_features(changes: Changes) -> None:
    assert changes.dropout.code == 0, changes.dropout.errors
    # The shape of the head is the same, and what it costs; blocks are trained from the linear head on.
    trained = stages("mobilenet_v3_small", *FROZEN, "views", "unfreeze")
    assert changes.dropout.ran == {"check", "tune", "evaluate", "compare"} | trained


def test_a_removed_backbone_leaves_metrics_report_and_data(changes: Changes) -> None:
    assert changes.removed.ran == OF_ALL, changes.removed.errors
    assert set(changes.removed_metrics) == {"mobilenet_v3_small", "best", "recommended", "measure"}
    assert "<bdi>scratch</bdi>" in changes.html
    assert "<bdi>scratch</bdi>" not in changes.removed_html
    left = {path.name for room in OF_BACKBONES for path in (changes.clone.folder / "data" / room).glob("[!.]*")}
    assert {name.removesuffix(".json") for name in left} == {"mobilenet_v3_small"}


def test_another_augmentation_computes_views_anew_and_trains_on_them(changes: Changes) -> None:
    assert changes.augmentation.code == 0, changes.augmentation.errors
    # None of its blocks is trained.
    assert changes.augmentation.ran == {"check", "tune"} | stages("mobilenet_v3_small", *FROZEN, "unfreeze")


def test_any_other_builder_of_keras_is_one_more_line(sharing: Sharing) -> None:
    assert sharing.added.code == 0, sharing.added.errors
    assert stages(OTHER) <= sharing.added.ran
    assert 0 <= sharing.added_metrics[OTHER]["accuracy"] <= 1
    assert f"<bdi>{OTHER}</bdi>" in sharing.added_html


def test_a_new_backbone_and_another_head_of_one_leave_the_others_alone(sharing: Sharing) -> None:
    anew = stages(OTHER) | stages("scratch", "weights", "features", "probe", "views")
    assert sharing.added.ran == OF_ALL | anew
    assert set(sharing.added_metrics) == {*BOTH, OTHER, "best", "recommended", "measure"}


def test_two_clones_make_the_same_bytes_by_dvc_and_by_the_flow_with_two_stages_at_a_time(
    changes: Changes, sharing: Sharing
) -> None:
    assert sharing.start.code == 0, sharing.start.errors
    differing = {name for name in changes.files | sharing.files if changes.files.get(name) != sharing.files.get(name)}
    assert differing == set()


def test_a_pull_brings_a_fresh_clone_to_the_same_state_without_running_anything(sharing: Sharing) -> None:
    assert sharing.pushed.code == 0, sharing.pushed.errors
    assert sharing.pulled.code == 0, sharing.pulled.errors
    assert sharing.pulled_files == sharing.files
    assert "Data and pipelines are up to date." in sharing.status.output
    assert sharing.after_pull.ran == set()


def test_metrics_are_shown_and_compared_by_backbone(changes: Changes) -> None:
    shown = changes.history["metrics show"].output
    assert all(re.search(rf"\b{name}\b", shown) for name in (*BOTH, "accuracy", "log_loss"))
    # The default shows what changed: with another dropout the loss at least.
    assert re.search(r"data/summary/mobilenet_v3_small\.json\s+log_loss", changes.workspace["metrics"].output)
    compared = changes.history["metrics diff"].output
    for name in BOTH:
        assert re.search(rf"data/summary/{name}\.json\s+accuracy\s", compared), compared


def test_changed_parameters_are_compared(changes: Changes) -> None:
    compared = changes.workspace["params"].output
    assert re.search(r"params.yaml\s+finetune\.head\.dropout\s+0\.5\s+0\.3", compared), compared


def test_an_experiment_stands_in_a_table_with_its_parameter_and_metrics(changes: Changes) -> None:
    rows = list(csv.DictReader(io.StringIO(changes.experiments.output)))
    # The working tree, the commit it stands on, and the experiment.
    assert [row["finetune.head.dropout"] for row in rows] == ["0.3", "0.5", "0.3"]
    assert [row["rev"] for row in rows[:2]] == ["workspace", "main"]
    losses = [float(row["data/summary/mobilenet_v3_small.json:log_loss"]) for row in rows]
    assert losses[0] == losses[2] != losses[1]


def test_the_table_of_experiments_can_be_kept_to_what_matters(changes: Changes) -> None:
    rows = list(csv.DictReader(io.StringIO(changes.few.output)))
    assert [row["finetune.head.dropout"] for row in rows] == ["0.3", "0.5", "0.3"]
    assert "data/summary/mobilenet_v3_small.json:log_loss" in rows[0]
    # A hash is that of a whole file or folder.
    hashes = [column for column in rows[0] if column.startswith(("data/", "stages/")) and ":" not in column]
    assert hashes == []


@pytest.mark.parametrize(("command", "folder"), [("plots show", "shown"), ("plots diff", "compared")])
def test_plots_become_a_page(changes: Changes, command: str, folder: str) -> None:
    done = changes.history[command]
    assert done.code == 0, done.errors
    page = changes.clone.text(f"{folder}/index.html")
    assert all(name in page for name in (*BOTH, "learning_curves", "confusion"))


def test_one_image_holds_the_learning_curves_of_all_backbones_and_revisions(changes: Changes) -> None:
    found = json.loads(changes.history["plots json"].output)["data"]
    curves = {name: plots for name, plots in found.items() if "learning_curves" in name}
    assert curves
    for (plot,) in curves.values():
        values = plot["content"]["data"]["values"]
        assert {(row["backbone"], row["rev"]) for row in values} == set(product(BOTH, ("HEAD~1", "workspace")))


def test_a_fault_in_the_parameters_is_one_line_and_stops_all(sharing: Sharing) -> None:
    done = sharing.faults["key"]
    assert (done.code != 0, done.ran) == (True, {"check"})
    assert "params.yaml: unknown key 'finetune.dropout'" in done.errors
    assert "Traceback" not in done.errors + done.output


@pytest.mark.parametrize(
    ("fault", "said"),
    [("missing", "nowhere"), ("single class", "data: data.source = 'one_class' has only the class")],
)
def test_a_source_that_cannot_be_used_is_one_line_and_stops_all(sharing: Sharing, fault: str, said: str) -> None:
    done = sharing.faults[fault]
    assert (done.code != 0, done.ran <= {"check", "ingest"}) == (True, True), done.output
    assert len([line for line in done.errors.splitlines() if said in line]) == 1, done.errors
    assert "Traceback" not in done.errors + done.output
