"""Names of members as people's systems write them: code pages, decomposed letters, backslashes."""

import os
import struct
import zlib
from pathlib import Path

import pytest

from tests.support.archives import tarred, unpack, without_encoding, zipped

NAMES = {
    "UTF-8, composed": (["Übung/1.jpg", "café/niño.jpg", "木/ソフト.jpg"], "utf-8"),
    "UTF-8, decomposed (the Finder)": (["U\u0308bung/1.jpg", "cafe\u0301/2.jpg"], "utf-8"),
    "UTF-8, emoji": (["🧘/1.jpg"], "utf-8"),
    "Western Windows and DOS (cp437)": (["Übung/1.jpg", "Straße/2.jpg", "niño/3.jpg", "élève/4.jpg"], "cp437"),
    "one such name": (["café/1.jpg"], "cp437"),
    "Western Europe (cp850)": (["São Paulo/1.jpg", "Ærø/2.jpg"], "cp850"),
    "ANSI, several (cp1252)": (["Übung/1.jpg", "São Paulo/2.jpg", "élève/3.jpg"], "cp1252"),
    "Japan (cp932)": (["犬/1.jpg", "猫/2.jpg", "木のポーズ/表示.jpg"], "cp932"),
    "one name with a byte that is a backslash": (["ソフト/1.jpg"], "cp932"),
    "Russia (cp866)": (["собака/1.jpg", "Кошка/2.jpg"], "cp866"),
    "Russia, ANSI (cp1251)": (["собака/1.jpg", "Кошка/2.jpg"], "cp1251"),
    "China (gbk)": (["狗/1.jpg", "瑜伽/2.jpg", "树式/3.jpg"], "gbk"),
    "Poland (cp852)": (["żaba/1.jpg", "łódka/2.jpg"], "cp852"),
}


@pytest.mark.parametrize(("names", "encoding"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_that_do_not_say_how_they_are_encoded_are_read_as_what_they_look_like(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str, names: list[str], encoding: str
) -> None:
    raw = [name.encode(encoding) for name in names]
    if form == "zip":
        archive = without_encoding(tmp_path / "a", {f"{n:x}".rjust(len(name), "-"): name for n, name in enumerate(raw)})
    else:
        archive = tarred(tmp_path / "a", {os.fsdecode(name): b"x" for name in raw}, "w:")
    assert unpack(archive) == (dict.fromkeys(names, b"x"), {})
    # Whatever is guessed is said.
    assert [f"is read as {encoding};" in message for message in caplog.messages] == [True] * (encoding != "utf-8")


@pytest.mark.parametrize("name", ["Kätzchen/1.jpg", "café/1.jpg", "Niño/1.jpg"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_name_that_fits_several_code_pages_is_of_those_that_write_such_archives(
    tmp_path: Path, form: str, name: str
) -> None:
    if form == "zip":
        archive = without_encoding(tmp_path / "a", {"-" * len(name): name.encode("cp437")})
    else:
        archive = tarred(tmp_path / "a", {os.fsdecode(name.encode("latin-1")): b"x"}, "w:")
    assert unpack(archive) == ({name: b"x"}, {})


def test_a_zip_that_says_how_its_names_are_encoded_is_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert list(unpack(zipped(tmp_path / "a", {"Übung/é.jpg": b"x"}))[0]) == ["Übung/é.jpg"]
    assert not caplog.messages


def test_the_extra_field_of_a_zip_has_the_name_if_it_is_that_of_this_name(tmp_path: Path) -> None:
    raw = {"aaaaa/1.jpg": "Ķiršu".encode("cp775") + b"/1.jpg", "bbbbb/2.jpg": "Übung".encode("cp437") + b"/2.jpg"}
    fields = {
        name: struct.pack("<HHBI", 0x7075, 5 + len(text.encode()), 1, zlib.crc32(raw[of])) + text.encode()
        for name, of, text in [
            ("aaaaa/1.jpg", "aaaaa/1.jpg", "Ķiršu/1.jpg"),
            ("bbbbb/2.jpg", "aaaaa/1.jpg", "renamed/2.jpg"),
        ]
    }
    archive = without_encoding(tmp_path / "a", raw, fields)
    assert sorted(unpack(archive)[0]) == sorted(["Ķiršu/1.jpg", "Übung/2.jpg"])


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_backslashes_between_folders_divide_as_slashes_do(tmp_path: Path, form: str) -> None:
    names = {"tree\\1.jpg": b"x", "plank\\deep\\2.jpg": b"y", ".\\tree\\3.jpg": b"z"}
    archive = (zipped if form == "zip" else tarred)(tmp_path / "a", names)
    assert unpack(archive) == ({"tree/1.jpg": b"x", "plank/deep/2.jpg": b"y", "tree/3.jpg": b"z"}, {})


def test_folders_of_a_zip_may_end_in_a_backslash(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a", {"tree\\": b"", "tree\\1.jpg": b"x", "empty\\": b""})
    assert unpack(archive) == ({"tree/1.jpg": b"x"}, {"empty/": "empty folder: nothing in it"})
