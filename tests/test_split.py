"""The split keeps copies together, holds its shares in every class, and depends on the pictures alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import params as parameters
from stages.errors import DataError, GroupedUserError
from stages.files import write_csv
from stages.images.prepared import SPLITS
from stages.params import parse
from stages.split import SplitParams, main, split

PARAMS = SplitParams(validation=0.2, test=0.25)


def manifest(sizes: dict[str, list[int]], name: str = "") -> pd.DataFrame:
    """Return a manifest whose classes have groups of these sizes."""
    rows = [
        (f"{label}/{name}{number}-{copy}.jpg", label, f"{label}{name}{number}")
        for label, groups in sizes.items()
        for number, size in enumerate(groups)
        for copy in range(size)
    ]
    return pd.DataFrame(rows, columns=["file", "label", "group"])


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        str(label): {part: int((rows["split"] == part).sum()) for part in SPLITS}
        for label, rows in table.groupby("label")
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_the_shares_to_the_nearest_picture(seed: int) -> None:
    sizes = {"tree": 40, "plank": 57, "goddess": 101, "rare": 7}
    result = counts(split(manifest({label: [1] * size for label, size in sizes.items()}), PARAMS, seed))
    for label, size in sizes.items():
        assert abs(result[label]["test"] - 0.25 * size) <= 0.5
        assert abs(result[label]["validation"] - 0.2 * size) <= 0.5
        assert sum(result[label].values()) == size


@pytest.mark.parametrize("seed", range(5))
def test_copies_never_lie_on_two_sides(seed: int) -> None:
    sizes = np.random.default_rng(seed).choice([1, 1, 1, 2, 3, 8], 60).tolist()
    table = split(manifest({"tree": sizes, "plank": sizes[:20]}), PARAMS, seed)
    assert all(len(set(copies)) == 1 for _, copies in table.groupby("group")["split"])
    shares = table[table["label"] == "tree"]["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.25, abs=0.03)
    assert shares["validation"] == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [[1, 1, 1], [9, 9, 9], [1, 1, 50], [50, 1, 1, 1], [2, 30, 40]])
@pytest.mark.parametrize("shares", [(0.2, 0.25), (0.01, 0.01), (0.05, 0.9), (0.9, 0.05), (0.45, 0.5)])
def test_every_part_has_something_of_every_class(groups: list[int], shares: tuple[float, float], seed: int) -> None:
    params = SplitParams(validation=shares[0], test=shares[1])
    result = counts(split(manifest({"tree": groups}), params, seed))
    assert min(result["tree"].values()) >= 1


def test_the_seed_chooses_the_split() -> None:
    table = manifest({"tree": [1] * 30})
    results = [tuple(split(table, PARAMS, seed)["split"]) for seed in range(6)]
    assert len(set(results)) == 6
    assert tuple(split(table, PARAMS, 3)["split"]) == results[3]


def test_the_order_of_the_manifest_changes_nothing() -> None:
    table = manifest({"tree": [1, 2, 1, 1, 3, 1], "plank": [1] * 9})
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(split(table, PARAMS, 7), split(shuffled, PARAMS, 7))


def test_the_rows_come_sorted_by_file_with_four_columns() -> None:
    table = split(manifest({"tree": [1] * 4, "plank": [2] * 4}).assign(width=3), PARAMS, 7)
    assert table.columns.tolist() == ["file", "label", "group", "split"]
    assert table["file"].is_monotonic_increasing
    assert set(table["split"]) <= set(SPLITS)


@pytest.mark.parametrize("seed", range(5))
def test_a_picture_that_comes_in_later_moves_few_others(seed: int) -> None:
    before = manifest({"tree": [1] * 60, "plank": [1] * 40})
    after = pd.concat([before, manifest({"tree": [1]}, "new")])
    old, new = (split(table, PARAMS, seed).set_index("file")["split"] for table in (before, after))
    moved = old[old != new[old.index]]
    assert len(moved) <= 3
    assert moved.index.str.startswith("tree/").all()


@pytest.mark.parametrize(
    ("groups", "message"), [([5, 4], "has 2 different pictures"), ([9], "has 1 different picture;")]
)
def test_a_class_of_too_few_different_pictures_is_an_error(groups: list[int], message: str) -> None:
    with pytest.raises(DataError, match=f"class 'plank' {message}.*at least 3, for training, validation and test"):
        split(manifest({"tree": [1] * 5, "plank": groups}), PARAMS, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validation": 0.5, "test": 0.5}, "split.test = 0.5; expected validation and test below 1 together"),
        ({"validation": 0.0, "test": 0.5}, "split.validation = 0.0; expected more than 0"),
        ({"validation": 0.2, "test": 1.0}, "split.test = 1.0; expected less than 1"),
        ({"validation": 0.2}, "'split.test' is missing"),
    ],
)
def test_bad_parameters_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(GroupedUserError) as caught:
        parse(SplitParams, values, "split")
    assert str(caught.value).startswith(message)


def test_the_stage_writes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parameters.read.cache_clear()
    params = {"seed": 4, "threads": 1, "split": {"validation": 0.2, "test": 0.25}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    # Names and groups that look like numbers or like nothing stay text.
    table = manifest({"NA": [1] * 8, "001": [1] * 8}).assign(group=lambda rows: [f"00{n}" for n in range(len(rows))])
    write_csv(tmp_path / "data" / "manifest.csv", table)
    main()
    main_table = (tmp_path / "data" / "splits.csv").read_text()
    assert main_table == split(table, PARAMS, 4).to_csv(index=False)
    assert "\nNA/0-0.jpg,NA,000," in main_table
