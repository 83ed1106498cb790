"""Stage probe predicts the pictures themselves, each once, from the cached features."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import files, params, probe
from stages.errors import DataError, GroupedUserError
from stages.results import linear_probe
from stages.results.logme import logme

ROOT = Path(__file__).parents[1]
CLASSES = ("001", "NA", "tree")
PARAMS = "seed: 3\nthreads: 1\naudit: {{folds: {folds}}}\nbackbones: {{vgg16: {{}}, scratch: {{}}}}\n"


def index() -> pd.DataFrame:
    """Return 36 pictures, a third of them each in train (three views), validation and test."""
    rows = [
        (("train", "validation", "test")[number % 3], f"{label}/{number:02}.jpg", label, view)
        for label in CLASSES
        for number in range(12)
        for view in range(3 if number % 3 == 0 else 1)
    ]
    table = pd.DataFrame(rows, columns=["split", "file", "label", "view"]).sort_values(["split", "file", "view"])
    table.insert(1, "row", table.groupby("split").cumcount())
    return table


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with features of a random network: tiny, and of the other views nothing but noise."""
    monkeypatch.chdir(tmp_path)
    configure(monkeypatch)
    table, random = index(), np.random.default_rng(0)
    files.write_csv(Path("data/prepared/index.csv"), table)
    own = table[table["view"] == 0]
    files.write_csv(Path("data/splits.csv"), own[["file", "label", "split"]].assign(group=own["file"], fold=-1))
    for split, rows in table.groupby("split"):
        apart = 5 * np.eye(3)[rows["label"].map(CLASSES.index)] * (rows[["view"]].to_numpy() == 0)
        path = Path(f"data/features/vgg16/{split}.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, (1e-10 * (apart + random.standard_normal((len(rows), 3)))).astype(np.float32))
    facts = {"vgg16": (True, "random"), "scratch": (False, "none")}
    for backbone, (frozen, source) in facts.items():
        content = {"frozen": frozen, "weights": {"source": source}}
        files.write_json(Path(f"data/weights/{backbone}/backbone.json"), content)
    yield tmp_path
    params.read.cache_clear()


def configure(monkeypatch: pytest.MonkeyPatch, backbone: str = "vgg16", folds: str = "4") -> None:
    Path("params.yaml").write_text(PARAMS.format(folds=folds))
    params.read.cache_clear()
    monkeypatch.setattr(sys, "argv", ["probe", backbone])


def read(backbone: str) -> pd.DataFrame:
    return files.read_csv(Path(f"data/probes/{backbone}/probabilities.csv"), text=("file", "label"))


def test_every_picture_is_predicted_once_sorted_by_file(project: Path) -> None:
    probe.main()
    found = read("vgg16")
    assert found.columns.tolist() == ["file", "label", "p:001", "p:NA", "p:tree"]
    assert found["file"].tolist() == sorted(index()["file"].unique())
    np.testing.assert_allclose(found[["p:001", "p:NA", "p:tree"]].sum(axis=1), 1, atol=1e-8)
    assert files.read_json(Path("data/probes/vgg16/probe.json")) == {
        "accuracy": 1.0,
        "folds": 4,
        "frozen": True,
        "left_out": 0,
        "pictures": 36,
        "weights": "random",
    }


def test_features_are_read_in_the_order_of_the_table_in_batches_of_any_size(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = files.read_csv(Path("data/splits.csv"), text=("file", "label", "group"))
    table = probe.pictures(files.read_csv(Path("data/prepared/index.csv"), text=("split", "file", "label")), splits)
    (whole,) = probe.read_features(Path("data/features/vgg16"), table)
    monkeypatch.setattr(probe, "_BATCH_BYTES", 5 * 3 * 4)
    parts = list(probe.read_features(Path("data/features/vgg16"), table))
    assert [len(part) for part in parts] == [5] * 7 + [1]
    assert (np.concatenate(parts) == whole).all()
    row = table.iloc[7]
    assert (whole[7] == np.load(f"data/features/vgg16/{row['split']}.npy")[row["row"]]).all()


def test_a_backbone_without_a_frozen_part_has_an_empty_table(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    configure(monkeypatch, "scratch")
    probe.main()
    found = read("scratch")
    assert (len(found), found.columns.tolist()) == (0, ["file", "label", "p:001", "p:NA", "p:tree"])
    known = files.read_json(Path("data/probes/scratch/probe.json"))
    assert (known["frozen"], known["accuracy"], known["weights"]) == (False, None, "none")
    assert caplog.messages == ["scratch: nothing is frozen, so there is nothing to probe"]


def test_a_class_that_cannot_be_held_out_is_left_out_and_counted(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = files.read_csv(Path("data/splits.csv"), text=("file", "label", "group"))
    files.write_csv(Path("data/splits.csv"), splits.assign(group=splits["group"].where(splits["label"] != "NA", "one")))
    probe.main()
    assert set(read("vgg16")["label"]) == {"001", "tree"}
    known = files.read_json(Path("data/probes/vgg16/probe.json"))
    assert (known["pictures"], known["left_out"], known["folds"]) == (24, 12, 2)
    assert caplog.messages == ["vgg16: 12 pictures are of classes too small to be held out"]


def test_two_runs_write_the_same_bytes(project: Path) -> None:
    written = []
    for _ in range(2):
        probe.main()
        written.append([path.read_bytes() for path in sorted(Path("data/probes/vgg16").iterdir())])
    assert written[0] == written[1]


def test_missing_features_say_which_command_makes_them(project: Path) -> None:
    Path("data/features/vgg16/test.npy").unlink()
    with pytest.raises(DataError, match=r"no data/features/vgg16/test.npy; .* run 'dvc repro features@vgg16'"):
        probe.main()


def test_a_number_of_folds_that_makes_no_sense_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, folds="1")
    with pytest.raises(GroupedUserError, match=r"audit.folds = 1; expected at least 2"):
        probe.main()


def test_probing_loads_no_network_library(project: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['probe', 'vgg16']\n"
        "from stages import probe; probe.main()\n"
        "assert not {'tensorflow', 'keras', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_ranking_is_made_of_the_pictures_that_train_and_choose(project: Path) -> None:
    probe.main()
    found = files.read_csv(Path("data/probes/vgg16/ranking.csv"), text=("file", "label", "predicted"))
    seen = index()[index()["split"] != "test"]["file"].unique()
    assert found.columns.tolist() == ["file", "label", "predicted"]
    assert found["file"].tolist() == sorted(seen)
    numbers = files.read_json(Path("data/probes/vgg16/ranking.json"))
    assert numbers["accuracy"] == (found["label"] == found["predicted"]).mean() == 1
    assert (numbers["pictures"], numbers["left_out"], numbers["folds"], numbers["weights"]) == (24, 0, 4, "random")
    assert 0 < numbers["log_loss"] < 1


def test_nothing_of_the_test_part_is_in_the_ranking(project: Path) -> None:
    written = []
    for _ in range(2):
        probe.main()
        written.append([Path(f"data/probes/vgg16/ranking.{kind}").read_bytes() for kind in ("csv", "json")])
        # Other features of the test pictures, and other pictures of the same class.
        np.save("data/features/vgg16/test.npy", np.load("data/features/vgg16/test.npy")[::-1] * 7)
    assert written[0] == written[1]


def test_logme_is_that_of_the_features_as_they_are(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe.main()
    splits = files.read_csv(Path("data/splits.csv"), text=("file", "label", "group"))
    table = probe.pictures(files.read_csv(Path("data/prepared/index.csv"), text=("split", "file", "label")), splits)
    seen = table[table["split"] != "test"]
    (features,) = probe.read_features(Path("data/features/vgg16"), seen)
    expected = logme([features], pd.factorize(seen["label"])[0])
    found = files.read_json(Path("data/probes/vgg16/ranking.json"))["logme"]
    assert found == pytest.approx(expected, abs=1e-8)
    # Some at a time, and of so many pictures at most.
    monkeypatch.setattr(probe, "_BATCH_BYTES", 5 * 3 * 4)
    probe.main()
    assert files.read_json(Path("data/probes/vgg16/ranking.json"))["logme"] == pytest.approx(expected, abs=1e-8)
    monkeypatch.setattr(linear_probe, "MOST_FITTED", 12)
    probe.main()
    assert files.read_json(Path("data/probes/vgg16/ranking.json"))["logme"] != pytest.approx(expected, abs=1e-3)


def test_copies_of_a_picture_say_nothing_of_each_other_in_the_ranking(project: Path) -> None:
    splits = files.read_csv(Path("data/splits.csv"), text=("file", "label", "group"))
    files.write_csv(Path("data/splits.csv"), splits.assign(group=splits["group"].where(splits["label"] != "NA", "one")))
    probe.main()
    found = files.read_csv(Path("data/probes/vgg16/ranking.csv"), text=("file", "label", "predicted"))
    assert set(found["label"]) == {"001", "tree"}
    assert files.read_json(Path("data/probes/vgg16/ranking.json"))["left_out"] == 8


def test_a_backbone_without_a_frozen_part_has_no_scores(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "scratch")
    probe.main()
    assert Path("data/probes/scratch/ranking.csv").read_text() == "file,label,predicted\n"
    found = files.read_json(Path("data/probes/scratch/ranking.json"))
    assert (found["accuracy"], found["log_loss"], found["logme"], found["left_out"]) == (None, None, None, 24)


def test_where_nothing_can_be_held_out_there_are_no_scores(project: Path) -> None:
    splits = files.read_csv(Path("data/splits.csv"), text=("file", "label", "group"))
    files.write_csv(Path("data/splits.csv"), splits.assign(group="one"))
    probe.main()
    found = files.read_json(Path("data/probes/vgg16/ranking.json"))
    assert (found["accuracy"], found["log_loss"], found["logme"], found["pictures"]) == (None, None, None, 0)
