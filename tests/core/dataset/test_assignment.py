"""The split goes by the content of the images, keeps groups together, and gives every class its part."""

import numpy as np
import pandas as pd
import pytest

from stages.core.dataset.assignment import compact, split
from stages.core.dataset.prepared import SPLITS
from stages.core.errors import DataError
from tests.support.manifests import ALL, assigned, brought, manifest, params


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        str(label): {part: int((rows["split"] == part).sum()) for part in SPLITS}
        for label, rows in table.groupby("label")
    }


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


def test_folders_to_use_that_are_not_there_are_an_error() -> None:
    with pytest.raises(DataError, match="use_folders = true, but the source has no split"):
        assigned(manifest({"tree": [1] * 5, "plank": [1] * 5}), params(use_folders=True), 1)


def test_a_class_without_test_images_in_the_source_s_split_is_an_error() -> None:
    table = brought(*ALL)
    table.loc[(table["label"] == "tree") & (table["source_split"] == "test"), "source_split"] = "train"
    with pytest.raises(DataError, match="class 'tree' has no image for test"):
        assigned(table, params(use_folders=True), 1)


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
