"""A table gives each image its label, split and group; a row that cannot be used is left out with its reason."""

import logging
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.sources.listing import Found
from stages.sources.tables import is_table, locate_below, read_table

IMAGES = ("tree/1.jpg", "plank/2.jpg", "3.jpg", "café/4.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in IMAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def read(folder: Path, text: str | bytes | pd.DataFrame) -> tuple[list[Found], dict[str, str]]:
    """Return what is found, by path, and the reasons of what is not."""
    table = folder / "labels.csv"
    if isinstance(text, pd.DataFrame):
        text.to_parquet(table, index=False)
    else:
        table.write_bytes(text if isinstance(text, bytes) else text.encode())
    found, rejects = read_table(table, "labels.csv", locate_below(folder))
    return list(found), {reject.path: reject.reason for reject in rejects}


def rows(found: list[Found]) -> list[tuple[str, ...]]:
    return [(item.path, item.label, item.split, item.group) for item in found]


def test_a_row_gives_label_split_and_group(folder: Path) -> None:
    text = "split,label,path,group\nTrain,Baum,tree/1.jpg,Anna\nval,Brett,plank/2.jpg,\n,Brett,3.jpg,Bo\n"
    found, rejects = read(folder, text)
    assert rows(found) == [
        ("3.jpg", "Brett", "", "Bo"),
        ("plank/2.jpg", "Brett", "validation", ""),
        ("tree/1.jpg", "Baum", "train", "Anna"),
    ]
    assert [item.location for item in found] == [folder / item.path for item in found]
    assert rejects == {}


def test_split_and_group_may_be_missing_and_paths_absolute(folder: Path) -> None:
    found, _ = read(folder, f"path,label\n{folder}/tree/1.jpg,tree\ncafé/4.jpg,café\n")
    assert rows(found) == [(f"{folder}/tree/1.jpg", "tree", "", ""), ("café/4.jpg", "café", "", "")]


@pytest.mark.parametrize("label", ["001", "NA", "null", "1.50", "true", "-rf", "🧘", "a b", "None"])
def test_labels_stay_the_text_that_they_are(folder: Path, label: str) -> None:
    assert rows(read(folder, f"path,label\n3.jpg,{label}\n")[0]) == [("3.jpg", label, "", "")]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["001", "NA"], ["001", "NA"]),
        ([1, 20], ["1", "20"]),
        ([1.0, 2.5], ["1", "2.5"]),
        ([True, False], ["true", "false"]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
    ],
)
def test_parquet_gives_the_same_with_numbers_as_text(folder: Path, labels: Any, expected: list[str]) -> None:
    found, _ = read(folder, pd.DataFrame({"path": ["3.jpg", "tree/1.jpg"], "label": labels}))
    assert [item.label for item in found] == expected


def test_a_missing_value_in_parquet_is_an_empty_one(folder: Path) -> None:
    table = pd.DataFrame({"path": ["3.jpg", "tree/1.jpg"], "label": [1.0, None], "split": [None, "test"]})
    found, rejects = read(folder, table)
    assert rows(found) == [("3.jpg", "1", "", "")]
    assert rejects == {"tree/1.jpg": "no class: the label is empty"}


def test_a_byte_order_mark_quotes_and_blank_lines_are_read(folder: Path) -> None:
    found, _ = read(folder, '\ufeff"path","label"\r\n"3.jpg","a ""b"", c"\r\n\r\n')
    assert rows(found) == [("3.jpg", 'a "b", c', "", "")]


# --- tables as people's systems write them ---

ROWS = "path{0}label{0}split\ntree/1.jpg{0}Übung{0}train\ncafé/4.jpg{0}déjà vu{0}test\n"
READ = [("café/4.jpg", "déjà vu", "test", ""), ("tree/1.jpg", "Übung", "train", "")]


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [
        ("utf-8", ","),
        ("utf-8-sig", ","),  # Excel: CSV UTF-8
        ("utf-8-sig", ";"),  # the same where the comma is the decimal mark
        ("cp1252", ";"),  # Excel: CSV
        ("cp1252", ","),
        ("mac_roman", ";"),  # Excel for macOS: CSV (Macintosh)
        ("utf-16", "\t"),  # Excel: Unicode text
        ("utf-16", ","),  # PowerShell 5: Export-Csv -Encoding Unicode
        ("utf-16-le", ","),
        ("utf-16-be", "\t"),
        ("utf-32", ","),
        ("utf-8", "\t"),
        ("utf-8", "|"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_a_table_is_read_in_any_encoding_and_with_any_usual_delimiter(
    folder: Path, caplog: pytest.LogCaptureFixture, encoding: str, delimiter: str, end: str
) -> None:
    found, rejects = read(folder, ROWS.format(delimiter).replace("\n", end).encode(encoding))
    assert (rows(found), rejects) == (READ, {})
    is_guess = encoding in ("cp1252", "mac_roman")
    # Whatever is guessed is said.
    assert [f"it is read as {encoding}" in message for message in caplog.messages] == [True] * is_guess


@pytest.mark.parametrize(
    ("encoding", "labels"),
    [
        ("cp932", ["犬", "木のポーズ"]),
        ("cp1251", ["собака", "Кошка"]),
        ("cp850", ["Übung", "niño"]),
        ("cp1250", ["żaba", "łódka"]),
        ("gbk", ["瑜伽", "树式"]),
    ],
)
def test_a_table_in_the_code_page_of_a_country_is_read(folder: Path, encoding: str, labels: list[str]) -> None:
    one, other = labels
    found, _ = read(folder, f"path,label\ntree/1.jpg,{one}\n3.jpg,{other}\n".encode(encoding))
    assert [item.label for item in found] == [other, one]


@pytest.mark.parametrize("first", ["sep=,\n", "SEP=,\r\n", "#TYPE System.Management.Automation.PSCustomObject\r\n"])
def test_a_first_line_for_another_program_is_no_header(folder: Path, first: str) -> None:
    assert rows(read(folder, first + "path,label\n3.jpg,tree\n")[0]) == [("3.jpg", "tree", "", "")]


@pytest.mark.parametrize(
    "text",
    [
        "path, label, split, group\n3.jpg, tree, test, Bo\n",
        '"path", "label", "split", "group"\n"3.jpg", "tree", "test", "Bo"\n',
        '"path" , "label" , "split" , "group"\n"3.jpg" , "tree" , "test" , "Bo"  \n',
        "path ,label ,split ,group \n3.jpg ,tree ,test ,Bo \n",
        "path,label,split,group\n3.jpg,tree\u00a0,test,\tBo\n",
        '  path; label; split; group\n  "3.jpg" ; tree ;test;"Bo"\n',
        '"path";"label";"split";"group"\n"3.jpg";"tree";"test";"Bo"\n',
        '"path"\t"label"\t"split"\t"group"\n"3.jpg"\t"tree"\t"test"\t"Bo"\n',
        '"path"|"label"|"split"|"group"\n"3.jpg"|"tree"|"test"|"Bo"\n',
        "path\t label \tsplit\tgroup\n3.jpg\t tree\ttest \tBo\n",
    ],
)
def test_blanks_and_quotes_around_a_cell_are_no_part_of_it(folder: Path, text: str) -> None:
    found, rejects = read(folder, text)
    assert [(item.path.strip(), *row[1:]) for item, row in zip(found, rows(found), strict=True)] == [
        ("3.jpg", "tree", "test", "Bo")
    ]
    assert rejects == {}


def test_one_line_in_a_code_page_behind_many_in_utf_8_decides(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ["path,label", *["café/4.jpg,déjà"] * 1001]
    read(folder, "\n".join(lines).encode() + "\n3.jpg,Übung\n".encode("latin-1"))
    assert any("is read as cp1252, such as '3.jpg,Übung'" in message for message in caplog.messages)


def test_blanks_around_a_cell_of_parquet_are_no_part_of_it(folder: Path) -> None:
    found, _ = read(folder, pd.DataFrame({"path": ["3.jpg"], " label": [" tree"], "split ": ["test "]}))
    assert rows(found) == [("3.jpg", "tree", "test", "")]


@pytest.mark.parametrize(
    "path",
    [
        "tree\\1.jpg",
        ".\\tree\\1.jpg",
        " tree/1.jpg ",
        "cafe\u0301/4.jpg",
        "caf\u00e9\\4.jpg",
        "u\u0308/5.jpg",
        "\u00fc/5.jpg",
    ],
)
def test_a_path_as_another_system_writes_it_is_found(folder: Path, path: str) -> None:
    (folder / "u\u0308").mkdir()
    (folder / "u\u0308/5.jpg").write_bytes(b"x")
    found, rejects = read(folder, f'path,label\n"{path}",tree\n')
    assert (len(found), rejects) == (1, {})
    assert found[0].location.is_file()


def test_rows_that_cannot_be_used_are_left_out_with_their_reason(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    lines = [
        "path,label",
        "nowhere.jpg,tree",
        "tree/1.jpg,",
        "tree/1.jpg,  ",
        "plank/2.jpg,a/b",
        "café/4.jpg,..",
        "./3.jpg,.waiting",
        "plank/../plank/2.jpg,a\u2028b",
        f"3.jpg,{'x' * 256}",
        "plank,plank",
        "pipe.jpg,plank",
        ",tree",
        "one,two,three",
        "tree\\9.jpg,tree",
        "nul\0.jpg,tree",
        f"{'y' * 300},tree",
    ]
    found, rejects = read(folder, "\n".join(lines))
    assert found == []
    assert rejects == {
        "nowhere.jpg": "missing file: No such file or directory",
        "tree/1.jpg": "no class: the label is empty",
        "plank/2.jpg": "class name: holds a slash",
        "café/4.jpg": "class name: begins with a dot",
        "./3.jpg": "class name: begins with a dot",
        "plank/../plank/2.jpg": "class name: holds characters that cannot be printed",
        "3.jpg": "class name: longer than 255 bytes",
        "plank": "not a file: a folder",
        "pipe.jpg": "not a file: a pipe, socket or device",
        "row 11": "missing file: the path is empty",
        "row 12": "broken row: 3 fields, the header has 2",
        "tree\\9.jpg": "missing file: No such file or directory",
        "nul\\x00.jpg": "missing file: its path holds a NUL",
        "y" * 300: "missing file: File name too long",
    }


def test_a_file_listed_twice_counts_once(folder: Path) -> None:
    found, rejects = read(folder, "path,label\n3.jpg,tree\n./tree/../3.jpg,tree\n")
    assert rows(found) == [("3.jpg", "tree", "", "")]
    assert rejects == {"./tree/../3.jpg": "listed twice: an earlier row names the same file"}


def test_a_file_under_two_labels_is_left_out_of_both(folder: Path) -> None:
    found, rejects = read(folder, "path,label\n3.jpg,tree\ntree/1.jpg,tree\n./3.jpg,plank\ntree/1.jpg,\n")
    assert rows(found) == [("tree/1.jpg", "tree", "", "")]
    assert rejects == {
        "3.jpg": "two labels: the table has it under 'tree' and 'plank'",
        "./3.jpg": "two labels: the table has it under 'tree' and 'plank'",
        "tree/1.jpg": "no class: the label is empty",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,labels\n", "has no column label, only path, labels; .* group; rename 'labels' to label$"),
        (
            "Path,Label\n",
            "no column path and no column label, only Path, Label; .* rename 'Path' to path and 'Label' to",
        ),
        ("path\tclass\n", "has no column label, only path, class; .* rename 'class' to label$"),
        (
            "file,finding,Patient ID\n",
            "only file, finding, Patient ID; .*; rename 'file' to path, 'finding' to label and 'Patient ID' to group$",
        ),
        ("Image Index,Finding Labels\n", "; rename 'Image Index' to path and 'Finding Labels' to label$"),
        # Two names may mean the group, none the label: nothing is guessed.
        (
            "file,patient,site,patient_age\n",
            "; rename 'file' to path, the column of classes to label and what must stay together to group$",
        ),
        ("file,image,x\n", "; rename the column of file names to path and the column of classes to label$"),
        ("path:label\n3.jpg:tree\n", "only path:label; expected the columns path, label"),
        ("x\n", "only x; .*; write the names of the columns into the first line, divided by commas$"),
        ("", "only an empty first line"),
        ("path,label\n", "has no rows; expected one row per image"),
        ("path,label,path\n", "has the column path twice; expected each once"),
        (
            "path,label,split\n3.jpg,tree,\n3.jpg,tree,tets\n",
            r"row 2 .* has the split 'tets'; expected one of train, .*, or an empty cell; did you mean 'test'\?",
        ),
        ('path,label\n"3.jpg"x,tree\n', "cannot be read"),
        ("path,label\n" + "x" * 200_000 + ",tree\n", r"cannot be read \(field larger than field limit"),
        (b"PAR1 and no more", "cannot be read"),
    ],
)
def test_what_is_no_such_table_is_an_error(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(folder, text)
    assert str(caught.value).isprintable()


def test_a_column_of_lists_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read(folder, pd.DataFrame({"path": ["3.jpg"], "label": [["tree"]]}))


def test_columns_that_are_not_used_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    read(folder, "path,label,splits,width\n3.jpg,tree,test,40\n")
    assert caplog.messages == ["columns of the table that are not used: splits, width"]


@pytest.mark.parametrize("name", ["patient", "Patient ID", "subject_id", "caseNumber", "site", "videos", "Group"])
def test_a_column_that_may_be_the_group_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level(logging.INFO)
    read(folder, f"path,label,{name},width\n3.jpg,tree,7,40\n")
    warning, rest = caplog.records
    assert warning.levelname == "WARNING"
    assert f"not used: {name}; images of one {name} may lie on both sides of the split" in warning.getMessage()
    assert rest.getMessage() == "columns of the table that are not used: width"


@pytest.mark.parametrize("header", ["path,label,patient_age", "path,label,group,patient"])
def test_other_columns_of_persons_and_those_beside_a_group_need_no_warning(
    folder: Path, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    caplog.set_level(logging.WARNING)
    read(folder, f"{header}\n3.jpg,tree,7{',1' * (header.count(',') - 2)}\n")
    assert not caplog.messages


def test_a_row_whose_file_may_not_be_reached_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def refusing(path: Path, **options: Any) -> os.stat_result:
        # A mode of 0 stops no one who runs as root.
        if path.name == "3.jpg":
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    assert read(folder, "path,label\n3.jpg,tree\n")[1] == {"3.jpg": "unreadable: Permission denied"}


def test_a_table_is_known_by_its_first_bytes_or_its_name(tmp_path: Path) -> None:
    for name, data in {"a.CSV": b"x", "b.parquet": b"x", "c.bin": b"PAR1", "d.txt": b"path,label\n"}.items():
        (tmp_path / name).write_bytes(data)
    assert {path.name: is_table(path) for path in sorted(tmp_path.iterdir())} == {
        "a.CSV": True,
        "b.parquet": True,
        "c.bin": True,
        "d.txt": False,
    }


@pytest.mark.parametrize("address", ["https://me:secret@host/1.jpg", " s3://bucket/1.jpg", "file:///1.jpg"])
def test_an_address_is_refused_at_once_and_a_folder_of_such_a_name_is_none(folder: Path, address: str) -> None:
    with pytest.raises(DataError) as caught:
        read(folder, f"path,label\n3.jpg,tree\n{address},tree\n")
    assert str(caught.value).startswith("row 2 of the table of data.source = 'labels.csv' names the address '")
    assert "download the images, and name the files" in str(caught.value)
    assert "secret" not in str(caught.value)
    (folder / "s3:").mkdir()
    (folder / "s3:/1.jpg").write_bytes(b"x")
    assert rows(read(folder, "path,label\ns3://1.jpg,tree\n")[0]) == [("s3://1.jpg", "tree", "", "")]
