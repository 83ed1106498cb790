"""Files are written whole or not at all, and equal content gives equal bytes."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.files import (
    CHUNK_ROWS,
    read_csv,
    read_csv_chunks,
    read_json,
    replacing,
    replacing_folder,
    scratch_folder,
    strip_dates,
    to_bytes_array,
    write_csv,
    write_csv_chunks,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "table.csv"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "half"
    assert names(path.parent) == ["table.csv"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    (folder / "old").mkdir(parents=True)
    with replacing_folder(folder) as temporary:
        (temporary / "new").mkdir()
        assert names(folder) == ["old"]
    assert names(folder) == ["new"]
    assert names(tmp_path) == ["raw"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    (folder / "old").mkdir(parents=True)

    def fail() -> None:
        with replacing_folder(folder) as temporary:
            (temporary / "new").mkdir()
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert names(folder) == ["old"]
    assert names(tmp_path) == ["raw"]


def test_what_a_killed_process_of_the_same_number_left_is_cleared(tmp_path: Path) -> None:
    stale = tmp_path / f".raw.{os.getpid()}.partial"
    (stale / "half").mkdir(parents=True)
    with replacing_folder(tmp_path / "raw") as temporary:
        assert temporary == stale
        assert names(temporary) == []
    stale.write_text("half")
    with replacing_folder(tmp_path / "raw"):
        pass
    assert names(tmp_path) == ["raw"]


def test_text_is_utf8_with_line_feeds(tmp_path: Path) -> None:
    write_text(tmp_path / "page.md", "Grüße, 木\n")
    assert (tmp_path / "page.md").read_bytes() == "Grüße, 木\n".encode()


def test_json_has_the_same_bytes_whatever_the_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": {"d": [1, 2], "c": "木"}})
    write_json(tmp_path / "b.json", {"a": {"c": "木", "d": (1, 2)}, "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "a": {\n    "c": "木",\n    "d": [\n      1,\n      2\n    ]\n  },\n  "b": 1\n}\n'


def test_json_takes_the_scalars_of_numpy(tmp_path: Path) -> None:
    value = {
        "float32": np.float32(0.1),
        "int64": np.int64(7),
        "bool": np.bool_(True),
        "true": True,
        "null": None,
        "list": [np.float64(1) / 3, "x"],
    }
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {
        "float32": 0.100000001,
        "int64": 7,
        "bool": True,
        "true": True,
        "null": None,
        "list": [0.333333333, "x"],
    }
    assert '"bool": true' in (tmp_path / "a.json").read_text()


def test_a_number_that_is_not_finite_becomes_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"nan": float("nan"), "inf": np.inf, "low": [-np.inf]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"nan": None, "inf": None, "low": [None]}


def test_json_refuses_what_it_has_no_type_for(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", {"path": tmp_path})
    assert names(tmp_path) == []


def test_csv_keeps_nine_digits_and_ends_lines_in_line_feeds(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", pd.DataFrame({"name": ["a", 'b,"c'], "value": [1 / 3, 1e-12]}, index=[5, 3]))
    assert (tmp_path / "a.csv").read_bytes() == b'name,value\na,0.333333333\n"b,""c",1e-12\n'


def test_labels_that_look_like_numbers_or_gaps_stay_text(tmp_path: Path) -> None:
    table = pd.DataFrame({"label": ["001", "NA", "null", "", "1e5", "true"], "count": [1, 2, 3, 4, 5, 6]})
    write_csv(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "a.csv", text=("label",)), table)
    categories = read_csv(tmp_path / "a.csv", categories=("label",), columns=("label",))
    assert categories["label"].dtype == "category"
    assert categories.to_dict("list") == {"label": table["label"].tolist()}


def test_a_table_in_pieces_is_written_and_read_as_in_one(tmp_path: Path) -> None:
    count = 2 * CHUNK_ROWS + 1
    table = pd.DataFrame({"label": ["NA", "001", 'b,"c'] * count, "value": 1 / 3, "row": range(3 * count)})[:count]
    write_csv(tmp_path / "one.csv", table)
    write_csv_chunks(tmp_path / "pieces.csv", [table[:0], table[:1], table[1:1], table[1:]])
    assert (tmp_path / "pieces.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    pieces = list(read_csv_chunks(tmp_path / "one.csv", ("label", "row")))
    assert [len(piece) for piece in pieces] == [CHUNK_ROWS, CHUNK_ROWS, 1]
    pd.testing.assert_frame_equal(pd.concat(pieces), table[["label", "row"]].astype({"row": str}))


# --- cells that spreadsheets take for formulas ---

FORMULAS = ["=cmd|' /C calc'!A0", "=1+1", "+1+1", "-1+1", "-rf", "@SUM(1)", "'=1", "''", "--", "+"]


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_cell_that_a_spreadsheet_takes_for_a_formula_is_text_in_csv_and_read_as_it_was(
    tmp_path: Path, cell: str
) -> None:
    path = tmp_path / "a.csv"
    table = pd.DataFrame({"label": [cell, "tree"], "kind": pd.Categorical([cell, "tree"]), "value": [-1.5, 2.0]})
    write_csv(path, table)
    with path.open(encoding="utf-8", newline="") as file:
        assert [row[:2] for row in csv.reader(file)][1] == [f"'{cell}"] * 2
    pd.testing.assert_frame_equal(read_csv(path, text=("label",), categories=("kind",)), table)
    (chunk,) = read_csv_chunks(path, ("label",))
    assert chunk["label"].tolist() == [cell, "tree"]


@pytest.mark.parametrize("cell", ["l'arbre", "a=b", "1-2", "-1", "+1.5e3", "-inf", "🧘", "", "001"])
def test_other_text_and_numbers_are_written_as_they_are(tmp_path: Path, cell: str) -> None:
    write_csv(tmp_path / "a.csv", pd.DataFrame({"label": [cell], "value": [-1.5]}))
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[1] == f"{cell},-1.5"


def test_packed_names_are_what_they_were() -> None:
    names = ["a", "", "Straße/体操.jpg"]
    assert [name.decode() for name in to_bytes_array(names)] == names
    assert to_bytes_array([]).dtype.kind == "S"


def archive(path: Path, order: list[str], year: int) -> Path:
    contents = {
        "metadata.json": json.dumps({"keras_version": "3.15.1", "date_saved": f"{year}-01-01"}).encode(),
        "config.json": b"{}",
        "model.weights.h5": bytes(100_000),
    }
    with zipfile.ZipFile(path, "w") as file:
        for name in order:
            info = zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if name == "model.weights.h5" else zipfile.ZIP_STORED
            file.writestr(info, contents[name])
    return path


def test_archives_that_differ_in_dates_and_order_alone_become_equal(tmp_path: Path) -> None:
    one = archive(tmp_path / "1.keras", ["metadata.json", "config.json", "model.weights.h5"], 2024)
    two = archive(tmp_path / "2.keras", ["model.weights.h5", "metadata.json", "config.json"], 2025)
    assert one.read_bytes() != two.read_bytes()
    strip_dates(one)
    strip_dates(two)
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as file:
        assert file.testzip() is None
        assert json.loads(file.read("metadata.json")) == {"keras_version": "3.15.1"}
        assert file.read("model.weights.h5") == bytes(100_000)
        assert file.getinfo("model.weights.h5").compress_type == zipfile.ZIP_DEFLATED
        assert file.getinfo("config.json").compress_type == zipfile.ZIP_STORED
        # As every Python writes members below 2 GB: the header for larger ones has changed within 3.11.
        assert {(info.create_version, info.extra) for info in file.infolist()} == {(zipfile.DEFAULT_VERSION, b"")}


def test_shared_objects_are_numbered_in_order_whatever_their_addresses(tmp_path: Path) -> None:
    layer = '{{"dtype": {{"name": "float32", "shared_object_id": {}}}, "text": "\\"shared_object_id\\": 7"}}'
    for name, (first, second) in {"1.keras": (140360427164304, 140360427164400), "2.keras": (93, 8)}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("config.json", f"[{', '.join(layer.format(number) for number in (first, second, first))}]")
        strip_dates(tmp_path / name)
    assert (tmp_path / "1.keras").read_bytes() == (tmp_path / "2.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.keras") as file:
        layers = json.loads(file.read("config.json"))
    assert [found["dtype"]["shared_object_id"] for found in layers] == [0, 1, 0]
    assert {found["text"] for found in layers} == {'"shared_object_id": 7'}


def test_a_scratch_folder_is_empty_each_time_and_out_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(".cache/checkpoints")
    folder.mkdir(parents=True)
    (folder / "left by a killed process").touch()
    with scratch_folder("checkpoints") as given:
        assert given == folder
        assert list(folder.iterdir()) == []
        (folder / "checkpoint").touch()
    assert not folder.exists()
    assert f"{folder.parts[0]}/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.fixture
def ended() -> int:
    """Return the number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


@pytest.mark.parametrize("name", ["table.csv", "data.json", "no suffix", "[odd]*.csv"])
@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_what_killed_processes_left_of_a_file_goes_when_it_is_written_next(
    tmp_path: Path, ended: int, name: str, *, is_folder: bool
) -> None:
    for number in (ended, os.getpid(), 2**70):
        left = tmp_path / f".{name}.{number}.partial"
        left.mkdir() if is_folder else left.write_text("half")
    write_text(tmp_path / name, "whole")
    assert names(tmp_path) == [name]


def test_what_a_running_process_is_writing_stays_and_so_does_what_belongs_to_other_files(
    tmp_path: Path, ended: int
) -> None:
    # The first process, and the one that started this one, run.
    others = {f".a.csv.{os.getppid()}.partial", ".a.csv.1.partial", f".a.csv.csv.{ended}.partial", ".a.csv.x.partial"}
    for other in others:
        (tmp_path / other).write_text("half")
    write_text(tmp_path / "a.csv", "whole")
    assert set(names(tmp_path)) == others | {"a.csv"}


def test_a_folder_clears_what_killed_processes_left(tmp_path: Path) -> None:
    (tmp_path / ".raw.12345.partial").mkdir()
    (tmp_path / ".rawer.12345.partial").mkdir()
    with replacing_folder(tmp_path / "raw") as folder:
        (folder / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".rawer.12345.partial", "raw"]


def test_stages_that_read_no_table_start_without_pandas() -> None:
    program = "import sys, stages.check, stages.candidates, stages.use.__main__; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False).returncode == 0
