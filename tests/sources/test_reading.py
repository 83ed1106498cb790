"""Whatever data.source may name is listed in one way, and what was fetched or unpacked for it goes afterwards."""

import errno
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from stages.core import addresses
from stages.core.errors import DataError, MachineError
from stages.core.settings.data import DataParams
from stages.sources import remote
from stages.sources.folders import read_folder
from stages.sources.members import Budget
from stages.sources.reading import SCRATCH, local_path, opened, read_file
from tests.stages.test_ingest import image, lay_out
from tests.support.archives import tarred, zipped
from tests.support.web import serve

BUDGET = Budget(1e6, 1e7)
FILES = {"tree/1.jpg": image(1), "plank/2.jpg": image(2)}
TABLE = b"path,label,split\ntree/1.jpg,Baum,train\nplank/2.jpg,Brett,test\n"


@pytest.fixture(autouse=True)
def _in_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


def read(source: str | Path, checksum: str | None = None) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    with opened(str(source), checksum, BUDGET) as (found, rejects):
        assert all(item.location.is_file() for item in found)
        assert [item.path for item in found] == sorted(item.path for item in found)
        assert isinstance(rejects, list)
        listed = [(item.path, item.label, item.split) for item in found]
        reasons = {reject.path: reject.reason for reject in rejects}
    assert not SCRATCH.exists()
    return listed, reasons


def in_folder(root: Path, files: dict[str, bytes]) -> Path:
    lay_out(root / "source", files)
    return root / "source"


KINDS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "folder": in_folder,
    "zip": lambda root, files: zipped(root / "source", files),
    "tar": lambda root, files: tarred(root / "source", files, "w:"),
    "tar.gz": lambda root, files: tarred(root / "source", files),
}
each_kind = pytest.mark.parametrize("write", KINDS.values(), ids=KINDS)
each_archive = pytest.mark.parametrize("write", [KINDS["zip"], KINDS["tar.gz"]], ids=["zip", "tar.gz"])
Write = Callable[[Path, dict[str, bytes]], Path]


@each_kind
def test_class_folders_give_labels_in_every_kind_of_source(tmp_path: Path, write: Write) -> None:
    listed, rejects = read(write(tmp_path, FILES | {"readme.txt": b"x", ".DS_Store": b"x"}))
    assert listed == [("plank/2.jpg", "plank", ""), ("tree/1.jpg", "tree", "")]
    assert rejects["readme.txt"] == "no class: lies in no class folder"
    assert rejects[".DS_Store"].startswith("hidden: ")


@each_kind
def test_splits_and_a_table_are_found_in_every_kind_of_source(tmp_path: Path, write: Write) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    parts = {"train/tree/1.jpg": FILES["tree/1.jpg"], "val/tree/2.jpg": FILES["plank/2.jpg"]}
    assert read(write(tmp_path / "a", parts))[0] == [
        ("train/tree/1.jpg", "tree", "train"),
        ("val/tree/2.jpg", "tree", "validation"),
    ]
    listed, rejects = read(write(tmp_path / "b", FILES | {"labels.csv": TABLE}))
    assert listed == [("plank/2.jpg", "Brett", "test"), ("tree/1.jpg", "Baum", "train")]
    assert rejects == {}


@each_archive
def test_a_top_folder_of_an_archive_is_looked_through(tmp_path: Path, write: Write) -> None:
    cases = {
        "classes": ({"images/tree/1.jpg": b"x", "images/2.jpg": b"x"}, [("images/tree/1.jpg", "tree", "")]),
        "splits": (
            {"a/b/train/tree/1.jpg": b"x", "a/b/test/tree/2.jpg": b"x"},
            [("a/b/test/tree/2.jpg", "tree", "test"), ("a/b/train/tree/1.jpg", "tree", "train")],
        ),
        "a table": (
            {"top/labels.csv": b"path,label\n1.jpg,tree\n", "top/1.jpg": b"x", "__MACOSX/top/._1.jpg": b"x"},
            [("1.jpg", "tree", "")],
        ),
        "one class": (
            {"tree/1.jpg": b"x", "tree/2.jpg": b"x"},
            [("tree/1.jpg", "tree", ""), ("tree/2.jpg", "tree", "")],
        ),
        "nothing": ({".hidden": b"x"}, []),
    }
    for name, (files, expected) in cases.items():
        (tmp_path / name).mkdir()
        assert read(write(tmp_path / name, files))[0] == expected


@each_archive
def test_rows_of_a_table_in_an_archive_stay_inside_it(tmp_path: Path, write: Write) -> None:
    (tmp_path / "out.jpg").write_bytes(b"x")
    rows = ["../1.jpg", "../../out.jpg", f"{tmp_path}/out.jpg", "tree/../tree/1.jpg"]
    table = "path,label\n" + "".join(f"{row},tree\n" for row in rows)
    listed, rejects = read(write(tmp_path, FILES | {"labels.csv": table.encode()}))
    assert listed == [("tree/../tree/1.jpg", "tree", "")]
    assert rejects == dict.fromkeys(rows[:3], "missing file: not in the archive, or left out of it")


@each_kind
def test_files_that_the_table_does_not_list_are_counted(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = write(tmp_path, FILES | {"labels.csv": b"path,label\n./tree/1.jpg,tree\n", "a.txt": b"x"})
    assert read(source)[0] == [("./tree/1.jpg", "tree", "")]
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("stages")]
    assert message == f"2 files beside the table of '{source}' are not listed in it, and are not part of the data"


def test_a_table_named_directly_warns_that_its_images_are_not_tracked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, FILES | {"poses.csv": TABLE})
    assert read("../poses.csv")[0] == [("plank/2.jpg", "Brett", "test"), ("tree/1.jpg", "Baum", "train")]
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == (
        "DVC tracks only the table '../poses.csv': name the folder with the table in it as labels.csv or "
        "labels.parquet to have its images tracked too"
    )


@each_kind
def test_two_tables_at_the_top_are_an_error(tmp_path: Path, write: Write) -> None:
    source = write(tmp_path, FILES | {"labels.csv": TABLE, "labels.parquet": TABLE})
    with pytest.raises(DataError, match=r"holds labels.csv and labels.parquet; expected one of them"):
        read(source)


@each_kind
def test_classes_that_differ_only_in_case_or_blanks_are_an_error(tmp_path: Path, write: Write) -> None:
    for number, (one, other) in enumerate([("Tree", "tree"), ("tree", "tree "), ("ÉTÉ", "e\u0301te\u0301")]):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(DataError, match=r"^the classes '\w+' and '\w+ ?' differ only in case or in blanks"):
            read(write(tmp_path / str(number), {f"{one}/1.jpg": b"x", f"{other}/2.jpg": b"x"}))


# --- what is no source ---


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nowhere",
            r"'nowhere' does not exist; expected a folder, an archive or a table of images; correct the path",
        ),
        ("x" * 300, r"cannot be read \(File name too long\)"),
        ("a\0b", r"'a\\x00b' cannot be read \(embedded null byte\)"),
        ("/dev/zero", r"is a pipe, socket or device"),
        ("pipe", r"is a pipe, socket or device"),
        ("loop", r"cannot be read \(Too many levels of symbolic links\)"),
        (
            "text.txt",
            r"'text.txt' is a file of unknown kind; expected a folder, a zip or tar archive, or a table named",
        ),
        ("1.jpg", "is a file of unknown kind"),
        ("empty.zip", "is a file of unknown kind"),
        ("labels.xlsx", r"is a workbook; expected a table in CSV or Parquet; save it as CSV \(UTF-8\)"),
        ("https://user@host/a.zip::simplecache", "is a chain of file systems"),
    ],
)
def test_what_is_no_source_is_an_error_in_one_line(source: str, message: str) -> None:
    lay_out(Path(), {"text.txt": b"x", "1.jpg": FILES["tree/1.jpg"], "empty.zip": b"", "labels.xlsx": b"PK\3\4"})
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    with pytest.raises(DataError, match=message):
        read(source)
    assert not SCRATCH.exists()


@pytest.mark.parametrize("name", ["folder", "file.zip"])
def test_a_source_that_may_not_be_read_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(Path(), {"file.zip": b"PK", "folder/tree/1.jpg": b"x"})

    method = "open" if name == "file.zip" else "stat"
    as_it_is = getattr(Path, method)

    def refuse(path: Path, *arguments: object, **options: object) -> object:
        # A mode of 0 stops no one who runs as root.
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return as_it_is(path, *arguments, **options)

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(DataError, match=rf"'{name}' cannot be read \(Permission denied\); .* or its permissions"):
        read(name)


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    lay_out(SCRATCH, {"members/0": b"left", "fetched": b"left"})
    assert read(zipped(tmp_path / "a.zip", FILES))[0]


# --- checksums ---


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_file_with_the_given_check_sum_is_read(tmp_path: Path, kind: str) -> None:
    archive = zipped(tmp_path / "a.zip", FILES)
    digest = hashlib.new(kind, archive.read_bytes()).hexdigest()
    assert len(read(archive, f"{kind}:{digest.upper()}")[0]) == 2


def test_another_check_sum_is_an_error_with_both_values(tmp_path: Path) -> None:
    lay_out(tmp_path, FILES | {"labels.csv": TABLE})
    digest = hashlib.md5(TABLE).hexdigest()
    with pytest.raises(DataError, match=f"has md5 {digest}; expected md5 {'0' * 32}, as data.checksum says; the file"):
        read(tmp_path / "labels.csv", f"md5:{'0' * 32}")


def test_a_folder_has_no_check_sum(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not one file; expected data.checksum: null"):
        read(in_folder(tmp_path, FILES), f"md5:{'0' * 32}")


# --- URLs ---


def test_a_url_elsewhere_is_no_path() -> None:
    lay_out(Path("C:\\images"), {"tree/1.jpg": b"x"})
    assert local_path("C:\\images") == Path("C:\\images")
    assert local_path("https://host/images") is None


def test_a_url_of_this_machine_is_a_path(tmp_path: Path) -> None:
    assert len(read(f"file://{in_folder(tmp_path, FILES)}")[0]) == 2


@each_archive
def test_an_archive_is_fetched_from_a_web_server(tmp_path: Path, write: Write) -> None:
    data = write(tmp_path, FILES | {"labels.csv": TABLE}).read_bytes()
    with serve() as web:
        web.files["poses"] = data
        listed, _ = read(f"{web.url}/poses", f"md5:{hashlib.md5(data).hexdigest()}")
        assert listed == [("plank/2.jpg", "Brett", "test"), ("tree/1.jpg", "Baum", "train")]
        # Once, and nothing else: a page that lists files is no folder.
        assert web.requests == ["GET /poses"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.zip", r"/none.zip' does not exist; expected a file or folder; correct the URL"),
        (
            "cut.zip",
            r"/cut.zip' cannot be fetched \(ClientPayloadError: .*\); expected a complete response; .*nothing was",
        ),
        ("silent.zip", r"cannot be fetched \(ClientPayloadError"),
        ("broken.zip", r"cannot be fetched \(ClientResponseError: 500.*; try again later; nothing was kept"),
        (
            "labels.csv",
            r"is not an archive \(\d+ bytes were received\); expected a zip or tar .* labels.csv and its images",
        ),
        ("page.html", r"is not an archive \(\d+ bytes were received\)"),
        ("empty.zip", r"is not an archive \(0 bytes were received\)"),
        ("half.zip", r"is a damaged archive"),
        ("large.zip", r"sends 0.0\d+ GB or more; expected at most data.max_unpacked_gigabytes = 0.01; raise"),
    ],
)
def test_what_a_web_server_does_wrong_is_an_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))
    data = zipped(tmp_path / "a.zip", FILES).read_bytes()
    with serve() as web:
        web.files |= {
            "cut.zip": data,
            "silent.zip": data,
            "labels.csv": TABLE,
            "page.html": b"<html>",
            "empty.zip": b"",
            "half.zip": data[:-50],
            "large.zip": bytes(30_000_000),
        }
        web.cut_after |= {"cut.zip": 500, "silent.zip": 0}
        web.broken.add("broken.zip")
        with pytest.raises(DataError, match=message) as caught:
            read(f"{web.url}/{name}")
    assert str(caught.value).isprintable()
    assert not SCRATCH.exists()
    # A fault of the server may pass, any other would come again.
    assert len(web.requests) == (3 if name == "broken.zip" else 1)


def test_a_server_with_a_fault_of_the_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))
    with serve() as web:
        web.files["a.zip"], web.failing["a.zip"] = zipped(tmp_path / "a.zip", FILES).read_bytes(), 2
        assert len(read(f"{web.url}/a.zip")[0]) == 2
        assert web.requests == ["GET /a.zip"] * 3
        caplog.clear()
        web.slow.add("a.zip")
        monkeypatch.setattr(remote, "_SILENT_SECONDS", 0.001)
        with pytest.raises(DataError, match=r"cannot be fetched \(.*Timeout.*; try again later"):
            read(f"{web.url}/a.zip")
        # Which of so short tries reach the server is left to chance.
        assert ["asking again" in message for message in caplog.messages].count(True) == 2


@pytest.mark.parametrize("target", ["/a.zip", "a.zip", "{url}/a.zip", "{url}/again"])
def test_a_redirect_within_one_network_is_followed(tmp_path: Path, target: str) -> None:
    with serve() as web:
        web.files["a.zip"] = zipped(tmp_path / "a.zip", FILES).read_bytes()
        web.redirects |= {"moved.zip": target.format(url=web.url), "again": "/a.zip"}
        assert len(read(f"{web.url}/moved.zip")[0]) == 2


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://169.254.169.254/latest/meta-data", "is redirected to '169.254.169.254', a link-local address"),
        ("//192.168.0.1/a.zip", "is redirected to '192.168.0.1', a private address"),
        ("/again", "is redirected to '10.0.0.1', a private address"),
    ],
)
def test_a_redirect_into_another_network_inside_is_an_error(target: str, said: str) -> None:
    with serve() as web:
        web.redirects |= {"moved.zip": target, "again": "http://10.0.0.1/"}
        with pytest.raises(DataError, match=rf"/moved.zip' {said}; expected a redirect to a public address; name that"):
            read(f"{web.url}/moved.zip")


@pytest.mark.parametrize("header", ["Location", "URI"])
def test_a_redirect_from_outside_to_this_machine_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    # As if the server on loopback were elsewhere.
    kinds = addresses._kinds
    monkeypatch.setattr(addresses, "_kinds", lambda url: {"public"} if "/moved" in url else kinds(url))
    with serve() as web:
        web.files["a.zip"] = zipped(tmp_path / "a.zip", FILES).read_bytes()
        web.redirects["moved.zip"], web.redirect_header = "/a.zip", header
        with pytest.raises(DataError, match=r"/moved.zip' is redirected to '127.0.0.1', a loopback address"):
            read(f"{web.url}/moved.zip")
        assert web.requests == ["GET /moved.zip"]


@pytest.mark.parametrize("name", ["body.zip", "moved.zip"])
def test_a_download_that_trickles_ends_when_its_time_is_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sources.test_reading.BUDGET", Budget(1e6, 1e7, seconds=0.3))
    with serve() as web:
        web.files["body.zip"] = bytes(100_000)
        web.slow.add("body.zip")
        web.redirects["moved.zip"] = "/body.zip"
        with pytest.raises(
            DataError,
            match=rf"/{name}' is not fetched after 0.005 minutes; expected at most data.max_fetch_minutes = 0.005",
        ):
            read(f"{web.url}/{name}")
    assert not SCRATCH.exists()


def test_a_folder_elsewhere_is_given_up_when_its_time_is_over(memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe({f"/poses/{name}": data for name, data in FILES.items()})
    monkeypatch.setattr("tests.sources.test_reading.BUDGET", Budget(1e6, 1e7, seconds=0))
    with pytest.raises(DataError, match=r"'memory://poses' is not fetched after 0 minutes"):
        read("memory://poses")


def test_a_password_comes_from_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login anna password secret\n")
    with serve() as web:
        web.files["a.zip"] = zipped(tmp_path / "a.zip", FILES).read_bytes()
        web.login = "anna:secret"
        with pytest.raises(DataError, match=r"cannot be fetched \(ClientResponseError: 401"):
            read(f"{web.url}/a.zip")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert len(read(f"{web.url}/a.zip")[0]) == 2


@pytest.mark.parametrize("path", ["none.zip", "moved.zip", "large.zip", "page.html"])
def test_a_password_in_an_address_is_in_no_error(path: str) -> None:
    with serve() as web:
        web.files |= {"page.html": b"<html>", "large.zip": bytes(30_000_000)}
        web.redirects["moved.zip"] = "http://10.0.0.1/"
        with pytest.raises(DataError) as caught:
            read(f"{web.url.replace('://', '://anna:hunter2@')}/{path}?token=hunter3")
    assert "hunter" not in str(caught.value)
    assert "***@127.0.0.1" in str(caught.value)


def test_a_wrong_check_sum_of_a_download_is_an_error(tmp_path: Path) -> None:
    with serve() as web:
        web.files["a.zip"] = zipped(tmp_path / "a.zip", FILES).read_bytes()
        with pytest.raises(DataError, match=r"a.zip' has sha256 [0-9a-f]{64}; expected sha256 0{64}, as data.checksum"):
            read(f"{web.url}/a.zip", f"sha256:{'0' * 64}")


def test_a_server_that_is_not_there_is_an_error() -> None:
    with serve() as web:
        url = web.url
    with pytest.raises(DataError, match=r"cannot be fetched \(ClientConnectorError: .*\); .* check the URL, the net"):
        read(f"{url}/a.zip")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "s3://bucket/poses",
            r"needs a package that is not installed .*; expected the package that reads s3://; uv sync ",
        ),
        ("gs://bucket/poses", "uv sync --inexact --extra gs"),
        ("sftp://host/poses", "expected the package that reads sftp://; install it, or fetch the images yourself"),
        (
            "nonsense://x",
            r"cannot be opened \(Protocol not known: nonsense\); expected a URL such as https://host/",
        ),
        ("http://", "cannot be fetched"),
    ],
)
def test_a_url_that_cannot_be_opened_is_an_error(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(source)


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def test_a_folder_elsewhere_is_fetched_whole(memory) -> None:
    memory.pipe({f"/poses/{name}": data for name, data in FILES.items()} | {"/other/tree/3.jpg": b"x"})
    assert read("memory://poses")[0] == [("plank/2.jpg", "plank", ""), ("tree/1.jpg", "tree", "")]
    memory.pipe("/poses/labels.csv", TABLE)
    assert read("memory://poses/")[0] == [("plank/2.jpg", "Brett", "test"), ("tree/1.jpg", "Baum", "train")]


def test_a_file_elsewhere_is_fetched(memory, tmp_path: Path) -> None:
    memory.pipe("/a.zip", zipped(tmp_path / "a.zip", FILES).read_bytes())
    assert len(read("memory://a.zip")[0]) == 2
    with pytest.raises(DataError, match=r"'memory://b.zip' does not exist"):
        read("memory://b.zip")


def test_names_elsewhere_are_judged_as_those_in_archives(memory, tmp_path: Path) -> None:
    memory.pipe({"/poses/tree/1.jpg": b"x", "/poses/tree/.2.jpg": b"x", "/poses/large/3.jpg": bytes(2_000_000)})
    memory.store["/poses/../../out.jpg"] = memory.store["/poses/tree/1.jpg"]
    listed, rejects = read("memory://poses")
    assert listed == [("tree/1.jpg", "tree", "")]
    assert rejects == {
        "../../out.jpg": "unsafe name: leads out of the archive",
        "large/3.jpg": "too large: 2.0 MB, at most 1",
        "tree/.2.jpg": "hidden: the name begins with a dot",
    }
    assert not (tmp_path / "out.jpg").exists()


def test_a_folder_elsewhere_that_is_too_large_is_an_error(memory) -> None:
    memory.pipe({f"/poses/tree/{number}.jpg": bytes(900_000) for number in range(12)})
    with pytest.raises(DataError, match=r"holds 0.0108 GB; expected at most data.max_unpacked_gigabytes = 0.01"):
        read("memory://poses")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["scandir", "read_bytes"])
def test_no_image_and_no_folder_is_left_out_for_what_the_machine_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.jpg").write_bytes(b"image")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    if call == "scandir":
        monkeypatch.setattr(os, "scandir", fail)
    else:
        monkeypatch.setattr(Path, "read_bytes", fail)
    params = DataParams.model_construct(max_megabytes=1)
    with pytest.raises(MachineError, match=os.strerror(number)):
        read_folder(tmp_path) if call == "scandir" else read_file(tmp_path / "cat/1.jpg", params)
