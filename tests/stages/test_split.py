"""The split keeps copies together, follows from each image's content, and mends what the source brings along."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages.core import params as parameters
from stages.core.dataset.prepared import DROPPED, SPLITS
from stages.core.errors import DataError, GroupedUserError, ParameterError
from stages.core.files import write_csv
from stages.core.params import parse
from stages.core.settings.split import SplitParams
from stages.split import compact, leaks, main, split

DECIDING = {"measure": "accuracy", "costs": {}}
VALUES: dict[str, Any] = {"validation": 0.2, "test": 0.25, "use_folders": False, "on_leak": "regroup", "folds": 0}


def params(**changes: Any) -> SplitParams:
    return parse(SplitParams, VALUES | changes, "split")


def manifest(sizes: dict[str, list[int]], name: str = "") -> pd.DataFrame:
    """Return a manifest whose classes have groups of these sizes."""
    rows = [
        (f"{label}/{name}{number:03}-{copy}.jpg", label, f"{label}{name}{number}", f"{label}{name}{number}-{copy}")
        for label, groups in sizes.items()
        for number, size in enumerate(groups)
        for copy in range(size)
    ]
    table = pd.DataFrame(rows, columns=["file", "label", "group", "pixels_sha256"])
    return table.assign(path="source/" + table["file"], source_split="", source_group="")


def assigned(table: pd.DataFrame, params: SplitParams, seed: int) -> pd.DataFrame:
    """Return file, label, group, split and fold of each image of a manifest."""
    rows = table[["file", "label", "group"]].reset_index(drop=True)
    return rows.join(split(compact([table], seed), params, seed))


def leaking(table: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    return leaks([table], compact([table], 1), params)


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        str(label): {part: int((rows["split"] == part).sum()) for part in SPLITS}
        for label, rows in table.groupby("label")
    }


# --- drawn from the content ---


def test_every_class_has_the_shares_on_average() -> None:
    result = counts(assigned(manifest({"tree": [1] * 4000, "plank": [1] * 2000}), params(), 1))
    for label, size in (("tree", 4000), ("plank", 2000)):
        # Four standard deviations of a binomial count.
        for part, share in (("test", 0.25), ("validation", 0.2), ("train", 0.55)):
            assert abs(result[label][part] - share * size) < 4 * np.sqrt(share * (1 - share) * size)


@pytest.mark.parametrize("seed", range(5))
def test_images_that_come_in_later_leave_all_others_where_they_are(seed: int) -> None:
    before = manifest({"tree": [1, 2, 3] * 20, "plank": [1] * 40})
    after = pd.concat([before, manifest({"tree": [1] * 50, "goddess": [2] * 30}, "new")])
    old, new = (assigned(table, params(), seed).set_index("file")["split"] for table in (before, after))
    pd.testing.assert_series_equal(old, new[old.index])


@pytest.mark.parametrize("size", [1, 2, 4, 10])
def test_the_size_of_a_group_of_copies_has_no_influence_on_its_split(size: int) -> None:
    groups = 2000
    result = counts(assigned(manifest({"tree": [size] * groups, "plank": [size] * groups}), params(), 1))
    for found in result.values():
        for part, share in (("test", 0.25), ("validation", 0.2), ("train", 0.55)):
            # Four standard deviations of a binomial count of groups.
            assert abs(found[part] / size - share * groups) < 4 * np.sqrt(share * (1 - share) * groups)


@pytest.mark.parametrize("copies", [1, 4])
def test_a_copy_that_comes_in_later_may_move_its_group_and_no_other(copies: int) -> None:
    before = manifest({"tree": [copies] * 1000, "plank": [1] * 400})
    new = before[(before["label"] == "tree") & before["file"].str.endswith("-0.jpg")]
    new = new.assign(file="new/" + new["file"], pixels_sha256="new" + new["pixels_sha256"])
    old, after = (
        assigned(table, params(), 1).set_index("file")["split"] for table in (before, pd.concat([before, new]))
    )
    moved = after[old.index] != old
    trees = old.index.str.startswith("tree")
    assert not moved[~trees].any()
    # The new one is chosen in one of copies + 1 groups; two draws differ in 1 - 0.25^2 - 0.2^2 - 0.55^2 of all cases.
    assert moved[trees].mean() == pytest.approx(0.595 / (copies + 1), abs=0.05)


def test_what_the_source_puts_together_goes_by_its_name_and_not_by_its_size() -> None:
    sizes = np.random.default_rng(0).integers(1, 40, 400).tolist()
    table = manifest({"tree": sizes})
    table["source_group"] = table["group"]
    result = assigned(table, params(), 2)
    assert all(len(set(parts)) == 1 for _, parts in result.groupby("group")["split"])
    assert (result["split"] == "test").mean() == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("seed", range(5))
def test_copies_never_lie_on_two_sides(seed: int) -> None:
    sizes = np.random.default_rng(seed).choice([1, 1, 1, 2, 3, 8], 60).tolist()
    table = assigned(manifest({"tree": sizes, "plank": sizes[:20]}), params(folds=4), seed)
    assert all(len(set(copies)) == 1 for _, copies in table.groupby("group")["split"])
    assert all(len(set(copies)) == 1 for _, copies in table.groupby("group")["fold"])


def test_copies_under_two_labels_lie_on_one_side() -> None:
    table = manifest({"tree": [1] * 60, "plank": [1] * 60})
    table["group"] = table["group"].str.removeprefix("tree").str.removeprefix("plank")
    result = assigned(table, params(folds=3), 4)
    assert set(result.groupby("group")["split"].nunique()) == {1}
    assert set(result.groupby("group")["fold"].nunique()) == {1}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [[1, 1, 1], [9, 9, 9], [1, 1, 50], [50, 1, 1, 1], [2, 30, 40]])
@pytest.mark.parametrize("shares", [(0.2, 0.25), (0.01, 0.01), (0.05, 0.9), (0.9, 0.05), (0.45, 0.5)])
def test_every_part_has_something_of_every_class(groups: list[int], shares: tuple[float, float], seed: int) -> None:
    result = counts(assigned(manifest({"tree": groups}), params(validation=shares[0], test=shares[1]), seed))
    assert min(result["tree"].values()) >= 1


def small_classes(groups: int, extra: int = 0) -> pd.DataFrame:
    """Return the manifest of 1,000 classes with so many images each, and `extra` ones that come in later."""
    return manifest({f"class{number:04}": [1] * (groups + extra) for number in range(1000)})


@pytest.mark.parametrize("groups", [3, 5, 8])
def test_a_split_that_chance_leaves_empty_takes_one_group_and_not_from_test(groups: int) -> None:
    table = small_classes(groups)
    places = compact([table], 1)["place"]
    drawn = pd.Series(np.select([places < 0.25, places < 0.45], ["test", "validation"], "train"))
    moved = assigned(table, params(), 1)["split"] != drawn
    empty = len(SPLITS) - drawn.groupby(table["label"]).nunique()
    pd.testing.assert_series_equal(moved.groupby(table["label"]).sum(), empty, check_names=False)
    in_test = (drawn == "test").groupby(table["label"]).sum()
    left = (moved & (drawn == "test")).groupby(table["label"]).sum()
    # Of three groups outside test, validation or training has two and can give one.
    assert not left[groups - in_test >= len(SPLITS)].any()


# The expected fractions are those of 14,000 simulated classes of each size.
@pytest.mark.parametrize(("groups", "moving", "leaving"), [(5, 0.218, 0.098), (8, 0.086, 0.037), (12, 0.027, 0.009)])
def test_one_more_image_rarely_moves_another_one_of_a_small_class(groups: int, moving: float, leaving: float) -> None:
    before, after = (assigned(small_classes(groups, extra), params(), 1).set_index("file") for extra in (0, 1))
    old, new = before["split"], after["split"][before.index]
    for moved, expected in ((old != new, moving), ((old == "test") & (new != "test"), leaving)):
        fraction = moved.groupby(before["label"]).any().mean()
        # Four standard deviations of a binomial fraction of 1,000 classes.
        assert abs(fraction - expected) < 4 * np.sqrt(expected * (1 - expected) / 1000)


def test_the_seed_chooses_the_split() -> None:
    table = manifest({"tree": [1] * 30})
    results = [tuple(assigned(table, params(), seed)["split"]) for seed in range(6)]
    assert len(set(results)) == 6
    assert tuple(assigned(table, params(), 3)["split"]) == results[3]


def test_the_order_of_the_manifest_changes_nothing() -> None:
    table = manifest({"tree": [1, 2, 1, 1, 3, 1], "plank": [1] * 9})
    shuffled = table.sample(frac=1, random_state=1)
    found = [assigned(rows, params(folds=3), 7) for rows in (table, shuffled)]
    one, other = (rows.sort_values("file", ignore_index=True) for rows in found)
    pd.testing.assert_frame_equal(one, other)


def test_the_pieces_in_which_the_manifest_is_read_change_nothing() -> None:
    table = brought(*ALL, copies={0: 10, 1: 7})
    pieces = [table.iloc[:1], table.iloc[1:20], table.iloc[20:]]
    whole, joined = compact([table], 7), compact(pieces, 7)
    pd.testing.assert_frame_equal(whole, joined)
    use = params(use_folders=True)
    pd.testing.assert_frame_equal(leaks([table], whole, use), leaks(pieces, joined, use))


def test_every_image_has_a_part_and_without_folds_no_fold() -> None:
    table = assigned(manifest({"tree": [1] * 4, "plank": [2] * 4}), params(), 7)
    assert set(table["split"]) <= set(SPLITS)
    assert set(table["fold"]) == {-1}


def persons(seed: int, count: int, classes: int) -> pd.DataFrame:
    """Return the manifest of persons who each have two images in some 60 % of the classes, three persons in each."""
    table = manifest({f"c{label}": [2] * count for label in range(classes)})
    table["source_group"] = table["group"] = "person" + table["file"].str.extract(r"/(\d+)-")[0]
    pair = table["label"] + table["group"]
    chosen = np.random.default_rng(seed).random((classes, count)) < 0.6
    chosen[:, :3] |= chosen.sum(axis=1, keepdims=True) < 3
    return table[pair.map(dict(zip(pair.unique(), chosen.ravel(), strict=True)))].reset_index(drop=True)


@pytest.mark.parametrize("seed", range(40))
def test_groups_of_several_classes_give_every_class_something_in_each_split(seed: int) -> None:
    table = assigned(persons(seed, count=8, classes=5), params(), seed)
    assert all(min(found.values()) >= 1 for found in counts(table).values())
    assert set(table.groupby("group")["split"].nunique()) == {1}


def test_a_class_takes_no_group_that_another_class_needs_if_another_one_can_move() -> None:
    # Class a lacks validation; group 0, in training, lies nearest to it, but is the only one of class b there.
    table = pd.DataFrame(
        {
            "label": pd.Categorical(list("aaabbb")),
            "group": [0, 1, 2, 0, 3, 4],
            "place": [0.46, 0.9, 0.1, 0.46, 0.3, 0.2],
            "rank": np.linspace(0, 1, 6),
            "side": np.nan,
        }
    )
    found = split(table, params(), 1)["split"]
    assert found.tolist() == ["train", "validation", "test", "train", "validation", "test"]


@pytest.mark.parametrize(
    ("use_folders", "remedy"),
    [
        (False, "add images of other groups to the class, or leave it out$"),
        (True, "or set split.use_folders to false$"),
    ],
)
def test_a_class_that_cannot_be_in_every_split_is_an_error(remedy: str, *, use_folders: bool) -> None:
    # Three persons of each class lie in three splits, so r and s would lie in the same one; class c has both.
    table = manifest({label: [1, 1, 1] for label in "abc"}).assign(group=list("pqrpqsprs"))
    if use_folders:
        table["source_split"] = np.where(table["group"] == "p", "test", "")
    with pytest.raises(DataError, match=f"has no image for (train|validation|test); .*{remedy}"):
        assigned(table, params(use_folders=use_folders), 1)


@pytest.mark.parametrize(("groups", "message"), [([5, 4], "has 2 distinct images"), ([9], "has 1 distinct image;")])
def test_a_class_of_too_few_different_images_is_an_error(groups: list[int], message: str) -> None:
    with pytest.raises(DataError, match=f"class 'plank' {message}.*at least 3, for training, test, validation"):
        assigned(manifest({"tree": [1] * 5, "plank": groups}), params(), 1)


# --- the source's own split ---


def brought(*parts: str, copies: dict[int, int] | None = None) -> pd.DataFrame:
    """Return a manifest of two classes, each with these parts; `copies` puts an image into another one's group."""
    table = manifest({label: [1] * len(parts) for label in ("plank", "tree")})
    table["source_split"] = [*parts, *parts]
    for one, other in (copies or {}).items():
        table.loc[one, "group"] = table.loc[other, "group"]
    return table


ALL = ("train",) * 6 + ("validation",) * 3 + ("test",) * 4


def test_the_source_s_split_is_kept_when_the_parameters_say_so() -> None:
    own = brought(*ALL)["source_split"].tolist()
    assert assigned(brought(*ALL), params(use_folders=True), 1)["split"].tolist() == own
    assert assigned(brought(*ALL), params(), 1)["split"].tolist() != own


def test_a_part_that_the_source_lacks_is_drawn_from_its_training_images() -> None:
    table = brought(*["train"] * 300, *["test"] * 40)
    result = assigned(table, params(use_folders=True), 1)
    assert (result["split"] == "test").equals(table["source_split"] == "test")
    share = (result["split"] == "validation").sum() / (table["source_split"] == "train").sum()
    assert share == pytest.approx(0.2 / 0.75, abs=0.06)
    table = brought(*["train"] * 300, *["validation"] * 40)
    result = assigned(table, params(use_folders=True), 1)
    assert (result["split"] == "validation").equals(table["source_split"] == "validation")
    assert (result["split"] == "test").sum() / 600 == pytest.approx(0.25, abs=0.06)


def test_images_of_which_the_source_says_nothing_are_for_training() -> None:
    table = brought(*ALL, "", "")
    assert set(assigned(table, params(use_folders=True), 1).loc[table["source_split"] == "", "split"]) == {"train"}


def test_copies_across_the_source_s_split_go_to_the_test_side() -> None:
    table = brought(*ALL, copies={0: 10, 1: 7, 2: 3})
    result = assigned(table, params(use_folders=True), 1)
    assert result["split"][:3].tolist() == ["test", "validation", "train"]
    found = leaking(table, params(use_folders=True))
    assert dict(zip(found["path"], found["action"], strict=True)) == {
        "source/plank/000-0.jpg": "moved to test",
        "source/plank/001-0.jpg": "moved to validation",
        "source/plank/010-0.jpg": "kept",
        "source/plank/007-0.jpg": "kept",
    }
    assert found.columns.tolist() == ["file", "path", "source_split", "group", "action"]


def test_copies_across_the_source_s_split_may_be_dropped_from_the_other_side() -> None:
    table = brought(*ALL, copies={0: 10, 1: 7})
    result = assigned(table, params(use_folders=True, on_leak="drop", folds=3), 1).set_index("file")
    assert result.loc[["plank/000-0.jpg", "plank/001-0.jpg"], "split"].tolist() == [DROPPED, DROPPED]
    assert result.loc[["plank/000-0.jpg", "plank/001-0.jpg"], "fold"].tolist() == [-1, -1]
    assert result.loc[["plank/010-0.jpg", "plank/007-0.jpg"], "split"].tolist() == ["test", "validation"]
    assert leaking(table, params(use_folders=True, on_leak="drop"))["action"].tolist().count("dropped") == 2


def test_copies_across_the_source_s_split_may_stop_all() -> None:
    table = brought(*ALL, copies={0: 10})
    with pytest.raises(
        DataError, match=r"2 images with copies .* 'source/plank/000-0.jpg' and 'source/plank/010-0.jpg'"
    ):
        leaking(table, params(use_folders=True, on_leak="stop"))
    assert leaking(brought(*ALL), params(use_folders=True, on_leak="stop")).empty


def test_leaks_of_a_split_that_is_not_used_are_counted_all_the_same() -> None:
    found = leaking(brought(*ALL, copies={0: 10}), params(on_leak="stop"))
    assert found["action"].tolist() == ["split again", "split again"]


def test_folders_to_use_that_are_not_there_are_an_error() -> None:
    with pytest.raises(DataError, match="use_folders = true, but the source has no split"):
        assigned(manifest({"tree": [1] * 5, "plank": [1] * 5}), params(use_folders=True), 1)


def test_a_class_without_test_images_in_the_source_s_split_is_an_error() -> None:
    table = brought(*ALL)
    table.loc[(table["label"] == "tree") & (table["source_split"] == "test"), "source_split"] = "train"
    with pytest.raises(DataError, match="class 'tree' has no image for test"):
        assigned(table, params(use_folders=True), 1)


# --- folds ---


def test_every_image_is_in_one_fold_and_every_fold_has_the_classes_in_proportion() -> None:
    table = assigned(manifest({"tree": [1] * 50, "plank": [1] * 30}), params(folds=5), 1)
    assert pd.crosstab(table["label"], table["fold"]).to_numpy().tolist() == [[6] * 5, [10] * 5]


def test_folds_leave_the_split_as_it_is() -> None:
    table = manifest({"tree": [1] * 50, "plank": [1] * 30})
    with_folds, without = assigned(table, params(folds=5), 1), assigned(table, params(), 1)
    assert with_folds["split"].equals(without["split"])


def test_more_folds_than_different_images_of_a_class_are_an_error() -> None:
    with pytest.raises(DataError, match=r"class 'plank' has 4 distinct images for split.folds = 5"):
        assigned(manifest({"tree": [1] * 9, "plank": [3, 1, 1, 1]}), params(folds=5), 1)


# --- parameters and the stage ---


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validation": 0.5, "test": 0.5}, "split.test = 0.5; expected validation and test below 1 together"),
        ({"validation": 0.0, "test": 0.5}, "split.validation = 0.0; expected more than 0"),
        ({"validation": 0.2, "test": 1.0}, "split.test = 1.0; expected less than 1"),
        ({"folds": 2}, "split.folds = 2; expected 0, or 3 and more"),
        ({"on_leak": "dropp"}, "split.on_leak = 'dropp'; expected 'regroup', 'drop' or 'stop'; did you mean 'drop'?"),
    ],
)
def test_bad_parameters_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(GroupedUserError) as caught:
        params(**values)
    assert str(caught.value).startswith(message)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    parameters.read.cache_clear()
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"seed": 4, "threads": 1, "split": VALUES, "report": DECIDING})
    )
    return tmp_path


def test_the_stage_writes_the_tables(project: Path) -> None:
    # Names and groups that look like numbers or like nothing stay text.
    table = manifest({"NA": [1] * 8, "001": [1] * 8}).assign(group=lambda rows: [f"00{n}" for n in range(len(rows))])
    write_csv(project / "data" / "manifest.csv", table)
    main()
    main_table = (project / "data" / "splits.csv").read_text()
    assert main_table == assigned(table, params(), 4).to_csv(index=False)
    assert "\nNA/000-0.jpg,NA,000," in main_table
    assert (project / "data" / "leaks.csv").read_text() == "file,path,source_split,group,action\n"


def test_a_measure_of_a_class_that_no_image_has_stops_before_anything_is_computed(project: Path) -> None:
    write_csv(project / "data" / "manifest.csv", manifest({"tree": [1] * 8, "plank": [1] * 8}))
    deciding = {"report": {"measure": "recall:planck", "costs": {}}}
    (project / "params.yaml").write_text(yaml.safe_dump({"seed": 4, "threads": 1, "split": VALUES} | deciding))
    with pytest.raises(ParameterError) as caught:
        main()
    assert str(caught.value) == (
        "report.measure with recall:planck; expected a class of the images (plank, tree); did you mean 'plank'?"
    )
    assert not (project / "data" / "splits.csv").exists()


@pytest.mark.parametrize(
    ("use_folders", "level", "said"),
    [(True, "WARNING", "split: see"), (False, "INFO", "split, which is not used: see")],
)
def test_the_stage_warns_of_leaks_of_a_split_that_is_used(
    project: Path, caplog: pytest.LogCaptureFixture, *, use_folders: bool, level: str, said: str
) -> None:
    caplog.set_level(logging.INFO)
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["split"]["use_folders"] = use_folders
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    write_csv(project / "data" / "manifest.csv", brought(*ALL, copies={0: 10}))
    main()
    (leak,) = [record for record in caplog.records if "copies of one another" in record.getMessage()]
    assert leak.levelname == level
    assert f"2 images, copies of one another in 1 groups, are separated by the source's own {said}" in leak.getMessage()


NOT_USED = (
    "the source's own split (30 train, 20 validation, 20 test) is not used: all images are assigned anew; "
    "set split.use_folders to true to keep it"
)
DRAWN = "the source's own split has no {0} images: they are drawn from the others (split.{0} = {1})"


@pytest.mark.parametrize(
    ("brought_splits", "use_folders", "said"),
    [
        (["train"] * 15 + ["validation"] * 10 + ["test"] * 10, False, [NOT_USED]),
        (["train"] * 15 + ["validation"] * 10 + ["test"] * 10, True, []),
        (["train"] * 30 + ["validation"] * 10, True, [DRAWN.format("test", 0.25)]),
        (["train"] * 30 + ["test"] * 10, True, [DRAWN.format("validation", 0.2)]),
        (["train"] * 40, True, [DRAWN.format("validation", 0.2), DRAWN.format("test", 0.25)]),
        ([""] * 40, False, []),
    ],
)
def test_the_stage_says_what_became_of_the_source_s_split(
    project: Path, caplog: pytest.LogCaptureFixture, brought_splits: list[str], *, use_folders: bool, said: list[str]
) -> None:
    caplog.set_level(logging.WARNING)
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["split"]["use_folders"] = use_folders
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    write_csv(project / "data" / "manifest.csv", brought(*brought_splits))
    main()
    assert [line for line in caplog.messages if "the source's own split" in line] == said


def test_the_stage_warns_of_classes_with_too_few_images(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    write_csv(project / "data" / "manifest.csv", manifest({"tree": [1] * 80, "plank": [1] * 6}))
    main()
    (few,) = caplog.messages
    assert re.fullmatch(r"classes of fewer than 10 training images, too few to learn reliably: 'plank' \(\d\)", few)


def test_the_stage_names_the_smallest_of_many_small_classes(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    write_csv(project / "data" / "manifest.csv", manifest({f"class {number:02}": [1] * 8 for number in range(60)}))
    main()
    (few,) = caplog.messages
    assert few.count("'class ") == 5
    assert few.endswith(" and 55 more")


def patients(count: int) -> pd.DataFrame:
    """Return the manifest of so many patients with two images of each of two classes."""
    table = manifest({"tree": [1] * 2 * count, "plank": [1] * 2 * count})
    names = [f"patient {number % count:02}" for number in range(len(table))]
    return table.assign(source_group=names, group=names)


@pytest.mark.parametrize("seed", range(4))
def test_the_stage_warns_where_chance_misses_the_fractions_or_leaves_few_groups(
    project: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    caplog.set_level(logging.WARNING)
    (project / "params.yaml").write_text(
        yaml.safe_dump({"seed": seed, "threads": 1, "split": VALUES, "report": DECIDING})
    )
    write_csv(project / "data" / "manifest.csv", patients(60))
    main()
    table = pd.read_csv(project / "data" / "splits.csv")
    shares = table["split"].value_counts(normalize=True)
    asked = {"train": 0.55, "validation": 0.2, "test": 0.25}
    expected = {
        f"{name} has {100 * shares[name]:.0f} % of the images in place of {100 * part:.0f} %"
        for name, part in asked.items()
        if abs(shares[name] / part - 1) > 1 / 3
    }
    groups = table.groupby("split")["group"].nunique()
    expected |= {
        f"{name} has only {groups[name]} groups of images" for name in ("validation", "test") if groups[name] < 10
    }
    remedy = ": each image or group is assigned by chance, a hash; another seed, chosen before results are looked at, "
    said = [line.split(remedy)[0].split("; ") for line in caplog.messages if remedy in line]
    assert (set(said[0]) if said else set()) == expected


def test_the_stage_does_not_warn_of_a_split_of_the_source_s_own(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["split"]["use_folders"] = True
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    write_csv(project / "data" / "manifest.csv", brought(*["train"] * 60 + ["validation"] * 3 + ["test"] * 3))
    main()
    assert not [line for line in caplog.messages if "another seed" in line]
