"""Stage probe fits the linear head, and predicts each image by one that has not seen it."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from stages import probe
from stages.core import files, head, params
from stages.core.dataset.subsample import subsamples
from stages.core.errors import DataError, run
from stages.core.shares import Training, trainings
from stages.heads import linear, logistic
from stages.statistics.logme import logme

ROOT = Path(__file__).parents[2]
CLASSES = ("001", "NA", "tree")
COLUMNS = ["file", "label", "predicted", "p:001", "p:NA", "p:tree"]
PARAMS = "backbones: {vgg16: {}, scratch: {}}\n"
PROBES = Path("data/probes")


def index(folds: int = 0) -> pd.DataFrame:
    """Return 36 images, a third of them each in train, validation and test, rows in an order of their own."""
    rows = [
        (("train", "validation", "test")[n % 3], f"{label}/{n:02}.jpg", label, n % folds if folds else -1)
        for label in CLASSES
        for n in range(12)
    ]
    table = pd.DataFrame(rows, columns=["split", "file", "label", "fold"]).sample(frac=1, random_state=0)
    table.insert(1, "row", table.groupby("split").cumcount())
    return table


def write_index(folds: int = 0) -> None:
    write(index(folds))


def write(table: pd.DataFrame) -> None:
    """Write the index of images that each are a group."""
    files.write_csv(Path("data/prepared/index.csv"), table.assign(group=table["file"]))


def group(label: str | None) -> None:
    """Put the images of a class, or all, into one group."""
    table = files.read_csv(Path("data/prepared/index.csv"), text=("file", "label", "group"))
    together = table["label"].eq(label) if label else table["label"].notna()
    files.write_csv(Path("data/prepared/index.csv"), table.assign(group=table["group"].mask(together, "one")))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with features of a random network, tiny, which tell the classes apart."""
    monkeypatch.chdir(tmp_path)
    configure(monkeypatch)
    write_index()
    random = np.random.default_rng(0)
    for split, rows in index().groupby("split"):
        apart = 5 * np.eye(3)[rows.sort_values("row")["label"].map(CLASSES.index)]
        path = Path(f"data/features/vgg16/{split}.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, (1e-10 * (apart + random.standard_normal((len(rows), 3)))).astype(np.float32))
    facts = {"vgg16": (True, "random"), "scratch": (False, "none")}
    for backbone, (frozen, source) in facts.items():
        content = {"frozen": frozen, "weights": {"source": source}}
        files.write_json(Path(f"data/features/{backbone}/features.json"), {"network": content})
        declare(backbone)
    yield tmp_path
    params.read.cache_clear()


def declare(backbone: str = "vgg16", **changes: Any) -> None:
    """Write what stage check makes of the parameters of the linear head."""
    recipe = {"c": [0.1, 1.0, 10.0], "class_weight": "none", "training_shares": [0.5], "training_draws": 2}
    recipe |= {"seed": 3, "threads": 1, "folds": 4}
    files.write_json(Path(f"data/recipes/{backbone}/probe.json"), recipe | changes)


def configure(monkeypatch: pytest.MonkeyPatch, backbone: str = "vgg16") -> None:
    Path("params.yaml").write_text(PARAMS)
    params.read.cache_clear()
    monkeypatch.setattr(sys, "argv", ["probe", backbone])


def read(name: str, backbone: str = "vgg16") -> pd.DataFrame:
    return files.read_csv(PROBES / backbone / f"{name}.csv", text=("split", "file", "label", "predicted"))


def numbers(backbone: str = "vgg16") -> dict[str, Any]:
    return files.read_json(PROBES / backbone / "probe.json")


def features(table: pd.DataFrame) -> NDArray[np.float32]:
    """Return the features of the images of `table`, each looked up by its file."""
    places = index().set_index("file").loc[table["file"], ["split", "row"]]
    return np.stack([np.load(f"data/features/vgg16/{split}.npy")[row] for split, row in places.to_numpy()])


def test_every_image_is_predicted_once_in_the_order_of_the_splits_and_their_rows(project: Path) -> None:
    probe.main()
    found = read("predictions")
    assert found.columns.tolist() == ["split", *COLUMNS]
    table = index()
    expected = [table[table["split"] == split].sort_values("row") for split in ("train", "validation", "test")]
    assert found[["split", "file", "label"]].equals(pd.concat(expected, ignore_index=True)[["split", "file", "label"]])
    assert (found["predicted"] == found["label"]).all()
    chances = found[["p:001", "p:NA", "p:tree"]]
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-6)
    assert (chances.idxmax(axis=1) == "p:" + found["predicted"]).all()


def test_the_head_is_that_of_the_images_that_train_and_choose_and_predicts_the_test_images(project: Path) -> None:
    probe.main()
    found, kept = read("predictions"), head.load(PROBES / "vgg16/head.npz")
    seen, test = found[found["split"] != "test"], found[found["split"] == "test"]
    labels = seen["label"].map(CLASSES.index).to_numpy()
    expected = linear.fit(features(seen), labels, 3, "none", numbers()["strength"], project)
    chances = kept.probabilities(features(test))
    np.testing.assert_allclose(chances, expected.probabilities(features(test)), atol=1e-4)
    np.testing.assert_allclose(test[["p:001", "p:NA", "p:tree"]], chances, atol=1e-6)
    # The others are predicted by fits that have not seen them: less surely than by the head.
    own = kept.probabilities(features(seen))[np.arange(24), labels]
    unseen = seen[["p:001", "p:NA", "p:tree"]].to_numpy()[np.arange(24), labels]
    assert (unseen < own).mean() > 0.9


def test_the_numbers_are_of_the_images_that_train_and_choose(project: Path) -> None:
    probe.main()
    found = read("predictions")
    seen = found[found["split"] != "test"]
    right = seen[["p:001", "p:NA", "p:tree"]].to_numpy()[np.arange(24), seen["label"].map(CLASSES.index)]
    assert numbers() == {
        "accuracy": 1.0,
        "frozen": True,
        "left_out": 0,
        "log_loss": pytest.approx(-np.log(right).mean(), abs=1e-6),
        "logme": pytest.approx(logme([features(seen)], pd.factorize(seen["label"])[0]), abs=1e-8),
        "losses": {"0.1": pytest.approx(0.9, abs=0.3), "1": pytest.approx(0.4, abs=0.3), "10": numbers()["log_loss"]},
        "images": 24,
        "strength": 10.0,
        "weights": "random",
        "class_weight": "none",
    }


def test_of_many_images_a_part_is_enough_for_logme(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe.main()
    whole = numbers()["logme"]
    monkeypatch.setattr(probe, "_BATCH", 5)
    probe.main()
    assert numbers()["logme"] == pytest.approx(whole, abs=1e-8)
    monkeypatch.setattr(probe, "_MAX_SCORED", 12)
    probe.main()
    assert numbers()["logme"] != pytest.approx(whole, abs=1e-3)


def test_nothing_of_the_test_part_is_in_the_numbers_and_the_head(project: Path) -> None:
    written = []
    for _ in range(2):
        probe.main()
        written.append([(PROBES / "vgg16" / name).read_bytes() for name in ("probe.json", "head.npz")])
        # Other features of the test images.
        np.save("data/features/vgg16/test.npy", np.load("data/features/vgg16/test.npy")[::-1] * 7)
    assert written[0] == written[1]


def shares() -> list[Training]:
    """Return what heads on fractions of the images predict for the 12 test images."""
    return trainings(read("shares"), 12)


def test_a_head_on_each_draw_of_each_share_predicts_the_test_images(project: Path) -> None:
    declare(training_shares=[0.25, 0.5])
    # Features that tell the classes apart less well, for heads on few images to be wrong.
    for split in ("train", "validation", "test"):
        path = Path(f"data/features/vgg16/{split}.npy")
        np.save(path, np.load(path) + 3e-10 * np.random.default_rng(1).standard_normal((12, 3)).astype(np.float32))
    probe.main()
    found, test = shares(), read("predictions").query("split == 'test'")
    assert [(each.share, each.draw, each.images) for each in found] == [
        (0.25, 0, 6), (0.25, 1, 6), (0.5, 0, 12), (0.5, 1, 12)
    ]  # fmt: skip
    seen = index()[index()["split"] != "test"]
    for each in found:
        part = seen[subsamples(seen.assign(group=seen["file"]), [each.share], 3, each.draw)[0]]
        labels = part["label"].map(CLASSES.index).to_numpy()
        one = linear.fit(features(part), labels, 3, "none", numbers()["strength"], project)
        # The rows of a head of the stage are normalised by the moments of all images.
        assert (each.predicted == one.probabilities(features(test)).argmax(axis=1)).mean() > 0.7
    assert len({tuple(each.predicted) for each in found}) > 1


def test_the_head_on_nearly_all_images_is_that_of_all(project: Path) -> None:
    declare(training_shares=[0.99], training_draws=1)
    probe.main()
    (found,) = shares()
    test = read("predictions").query("split == 'test'")
    assert (found.images, found.predicted.tolist()) == (24, test["predicted"].map(CLASSES.index).tolist())


def test_of_many_images_each_share_is_drawn_less_often(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(training_draws=9)
    monkeypatch.setattr(probe, "_MANY", 23)
    probe.main()
    assert [each.draw for each in shares()] == [0, 1, 2]


def test_shares_in_which_a_class_would_have_no_image_are_left_out(project: Path) -> None:
    declare(training_shares=[0.01, 0.05, 0.5], training_draws=1)
    probe.main()
    assert [each.share for each in shares()] == [0.5]


def test_no_share_and_no_folds_are_tables_without_rows(project: Path) -> None:
    declare(training_shares=[])
    probe.main()
    assert (PROBES / "vgg16/shares.csv").read_text() == "share,draw,training_images,predicted\n"
    assert (PROBES / "vgg16/folds.csv").read_text() == ",".join(["fold", *COLUMNS]) + "\n"


def test_every_image_is_tested_in_its_fold_by_a_head_on_the_others(project: Path) -> None:
    write_index(folds=4)
    probe.main()
    found = read("folds")
    assert found.columns.tolist() == ["fold", *COLUMNS]
    assert sorted(found["file"]) == sorted(index()["file"])
    expected = index(4).set_index("file")["fold"]
    assert (found["fold"].to_numpy() == expected[found["file"]].to_numpy()).all()
    tested, others = (found[(found["fold"] == 2) == own] for own in (True, False))
    labels = others["label"].map(CLASSES.index).to_numpy()
    one = linear.fit(features(others), labels, 3, "none", 10, project)
    np.testing.assert_allclose(tested[["p:001", "p:NA", "p:tree"]], one.probabilities(features(tested)), atol=1e-4)


def test_classes_count_the_same_where_they_are_to_be_balanced(project: Path) -> None:
    table = index()
    write(table[(table["label"] != "NA") | (table["split"] != "validation")])
    declare(class_weight="balanced")
    probe.main()
    found = read("predictions")
    seen, test = found[found["split"] != "test"], found[found["split"] == "test"]
    labels, chances = seen["label"].map(CLASSES.index).to_numpy(), test[["p:001", "p:NA", "p:tree"]]
    balanced, plain = (
        linear.fit(features(seen), labels, 3, weight, numbers()["strength"], project).probabilities(features(test))
        for weight in ("balanced", "none")
    )
    np.testing.assert_allclose(chances, balanced, atol=1e-4)
    assert np.abs(chances.to_numpy() - plain).max() > 0.005


def test_a_backbone_without_a_frozen_part_has_empty_tables_and_no_scores(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    configure(monkeypatch, "scratch")
    probe.main()
    assert (PROBES / "scratch/predictions.csv").read_text() == ",".join(["split", *COLUMNS]) + "\n"
    assert read("shares", "scratch").empty
    assert read("folds", "scratch").empty
    assert not (PROBES / "scratch/head.npz").exists()
    assert numbers("scratch") == {
        **dict.fromkeys(("accuracy", "log_loss", "logme", "strength")),
        "frozen": False,
        "left_out": 24,
        "losses": {},
        "images": 0,
        "weights": "none",
        "class_weight": "none",
    }
    assert caplog.messages == ["scratch: nothing is frozen, so there is no linear head"]


def test_a_class_that_cannot_be_held_out_is_left_out_and_counted(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    group("NA")
    probe.main()
    found = read("predictions")
    assert set(found[found["split"] != "test"]["label"]) == {"001", "tree"}
    # The head knows it all the same.
    assert found[found["split"] == "test"]["predicted"].value_counts().to_dict() == dict.fromkeys(CLASSES, 4)
    assert (numbers()["images"], numbers()["left_out"]) == (16, 8)
    assert caplog.messages == [
        "vgg16: the linear head (C = 10) has an out-of-fold accuracy of 1.000 on 16 images, weights: random",
        "vgg16: 8 images belong to classes too small to hold out",
    ]


def test_where_nothing_can_be_held_out_there_is_a_head_and_no_scores(project: Path) -> None:
    group(None)
    probe.main()
    found = numbers()
    assert (found["accuracy"], found["log_loss"], found["logme"], found["images"]) == (None, None, None, 0)
    assert (found["strength"], found["losses"], found["left_out"]) == (0.1, {}, 24)
    assert read("predictions")["split"].unique().tolist() == ["test"]
    assert (read("predictions")["predicted"] == read("predictions")["label"]).all()


def test_a_project_without_test_images_has_no_test_predictions(project: Path) -> None:
    table = index()
    write(table[table["split"] != "test"])
    probe.main()
    assert read("predictions")["split"].unique().tolist() == ["train", "validation"]
    assert read("shares").empty


def test_two_runs_write_the_same_bytes_and_leave_nothing_else_behind(project: Path) -> None:
    write_index(folds=3)
    written = []
    for _ in range(2):
        probe.main()
        written.append({path.name: path.read_bytes() for path in (PROBES / "vgg16").iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"head.npz", "predictions.csv", "probe.json", "shares.csv", "folds.csv"}
    assert not any(Path(".cache").iterdir())


def test_missing_features_say_which_command_makes_them(project: Path) -> None:
    Path("data/features/vgg16/test.npy").unlink()
    with pytest.raises(DataError, match=r"no data/features/vgg16/test.npy; .* run 'dvc repro features@vgg16'"):
        probe.main()
    assert not (PROBES / "vgg16").exists()


def test_a_fit_that_does_not_converge_ends_the_program_with_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logistic, "_MAX_ITERATIONS", 1)
    with pytest.raises(SystemExit) as caught:
        run(probe.main)
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fit: a linear head of C = 0.1 whose loss still falls by ")
    assert not (PROBES / "vgg16").exists()
    assert not any(Path(".cache").iterdir())


def test_probing_loads_no_network_library(project: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['probe', 'vgg16']\n"
        "from stages import probe; probe.main()\n"
        "assert not {'tensorflow', 'keras', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
