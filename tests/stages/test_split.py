"""The split keeps copies together, follows from each image's content, and mends what the source brings along."""

import logging
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from stages.core import params as parameters
from stages.core.dataset.assignment import compact
from stages.core.dataset.prepared import DROPPED
from stages.core.errors import DataError, GroupedUserError, ParameterError
from stages.core.files import write_csv
from stages.core.settings.split import SplitParams
from stages.split import leaks, main
from tests.support.manifests import ALL, VALUES, assigned, brought, manifest, params

DECIDING = {"measure": "accuracy", "costs": {}}


def leaking(table: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    return leaks([table], compact([table], 1), params)


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


def test_the_pieces_in_which_the_manifest_is_read_change_nothing() -> None:
    table = brought(*ALL, copies={0: 10, 1: 7})
    pieces = [table.iloc[:1], table.iloc[1:20], table.iloc[20:]]
    whole, joined = compact([table], 7), compact(pieces, 7)
    pd.testing.assert_frame_equal(whole, joined)
    use = params(use_folders=True)
    pd.testing.assert_frame_equal(leaks([table], whole, use), leaks(pieces, joined, use))


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
