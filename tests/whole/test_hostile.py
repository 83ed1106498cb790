"""Sources that mean harm, or are broken: one clear line or a reject with its reason, and nothing written outside.

Each row of the table builds a source by code; the stage itself runs on it.
"""

import ctypes
import io
import logging
import os
import re
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from stages import ingest, split
from stages.core import params
from stages.core.errors import run
from stages.core.files import read_csv
from tests.stages.test_ingest import image, lay_out
from tests.support.archives import tar_info, tarred, zip_info, zipped

ROOT = Path(__file__).parents[2]
SPLIT = {"validation": 0.2, "test": 0.2, "use_folders": False, "on_leak": "regroup", "folds": 0}
REPORT: dict[str, Any] = {"measure": "accuracy", "costs": {}}
DATA: dict[str, Any] = {
    "source": "../source",
    "checksum": None,
    "exclude": [],
    "near_duplicates": 16,
    "min_pixels": 32,
    "max_megapixels": 1,
    "max_megabytes": 1,
    "max_unpacked_gigabytes": 0.01,
    "max_seconds": 10,
    "max_memory_gigabytes": 1,
    "max_unpack_minutes": 1,
    "max_unpack_memory_gigabytes": 0.5,
    "max_fetch_minutes": 1,
}
GOOD = {f"{label}/{number}.jpg": image(number + len(label)) for label in ("tree", "plank") for number in (0, 10, 20)}
JPEG = image(77)


@dataclass(frozen=True)
class Hostile:
    """A source: what builds it at the path given, and what has to come of it.

    `outcome` is the beginning of the error after "data: " (a regular expression), or how often each
    kind of reject occurs; then `accepted` images are taken beside those of GOOD.
    """

    name: str
    build: Callable[[Path], object]
    outcome: str | dict[str, int]
    accepted: int = 0
    source: str = "../source"


def folder(more: dict[str, bytes]) -> Callable[[Path], None]:
    """Return what lays out the good images and `more` in a folder."""
    return lambda root: lay_out(root, GOOD | more)


def nothing(root: Path) -> None:
    """Stand for a source that lies elsewhere, or nowhere."""


def only(held: dict[str, bytes]) -> Callable[[Path], None]:
    return lambda root: lay_out(root, held)


def beside(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what lays out the good images and then lets `make` add to the class folder `tree`."""

    def build(root: Path) -> None:
        lay_out(root, GOOD)
        make(root / "tree")

    return build


def in_zip(more: dict[str, bytes]) -> Callable[[Path], Path]:
    return lambda root: zipped(root, GOOD | more)


def in_tar(more: dict[str, bytes], *extra: tarfile.TarInfo) -> Callable[[Path], Path]:
    return lambda root: tarred(root, GOOD | more, "w:gz", *extra)


def zip_of(info: zipfile.ZipInfo, data: bytes = JPEG) -> Callable[[Path], None]:
    """Return what writes a zip archive of the good images and one member of any kind."""

    def build(root: Path) -> None:
        zipped(root, GOOD)
        with zipfile.ZipFile(root, "a") as archive:
            archive.writestr(info, data)

    return build


def cut(write: Callable[[Path], Path], share: float) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        data = write(root).read_bytes()
        root.write_bytes(data[: int(len(data) * share)])

    return build


def table(text: str | bytes, header: str = "path,label") -> Callable[[Path], None]:
    """Return what lays out the good images with a table that lists them, and then `text`."""
    rows = "".join(f"{path},{path.split('/')[0]}{',' * (header.count(',') - 1)}\n" for path in GOOD)
    data = text if isinstance(text, bytes) else f"{header}\n{rows}{text}".encode()
    return folder({"labels.csv": data, "other/1.jpg": JPEG})


def png(width: int, height: int) -> bytes:
    """Return a whole PNG of one colour, whose pixels take a thousandth of their size in it."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def gif(frames: int) -> bytes:
    stream = io.BytesIO()
    first, *others = (Image.new("P", (40, 40), number % 256) for number in range(frames))
    first.save(stream, "GIF", save_all=True, append_images=others)
    return stream.getvalue()


def encrypted(root: Path) -> None:
    """Write a zip archive whose last member says that it is encrypted."""
    data = bytearray(zipped(root, GOOD | {"tree/x.jpg": JPEG}).read_bytes())
    struct.pack_into("<H", data, data.rindex(b"PK\x01\x02") + 8, 1)
    root.write_bytes(data)


def doubled(root: Path) -> None:
    with tarfile.open(root, "w") as archive:
        for name, data in [*GOOD.items(), ("tree/0.jpg", JPEG)]:
            archive.addfile(tar_info(name, size=len(data)), io.BytesIO(data))


def bound(path: Path) -> None:
    """Make a socket; its address has to be short, so it is bound from within the folder."""
    here = Path.cwd()
    os.chdir(path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.jpg")
    os.chdir(here)


NOT, BROKEN = {"not an image": 1}, {"broken": 1}
NAMES = {
    "spaces": " a  b .jpg",
    "quotes": "'a' \"b\" `c`.jpg",
    "a newline": "a\nb\r\n.jpg",
    "emoji": "🧘🏽\u200d♀️.jpg",
    "bytes that are not UTF-8": os.fsdecode(b"\xff\xfe.jpg"),
    "leading dashes": "--rf.jpg",
    "255 bytes": "x" * 251 + ".jpg",
    "escape codes": "\x1b[31mred\x07.jpg",
    "commas and formulas": '=cmd(),"1".jpg',
    "percent signs and braces": "%s{0}${HOME}$(id).jpg",
    "no suffix": "jpg",
    "the writing turned round": "\u202egpj.exe",
}
MEMBERS = {
    "'..'": ("../../../outside/x.jpg", "unsafe name"),
    "'..' in the middle": ("tree/../../../outside/x.jpg", "unsafe name"),
    "an absolute path": ("/tmp/x.jpg", "unsafe name"),
    "a drive letter": ("C:/x.jpg", "unsafe name"),
    "backslashes": ("..\\..\\x.jpg", "unsafe name"),
    "300 characters": ("tree/" + "y" * 300, "unsafe name"),
    "a hidden folder": (".ssh/authorized_keys", "hidden"),
    "macOS's own data": ("__MACOSX/tree/._0.jpg", "hidden"),
}
UNIX_SOCKET = stat.S_IFSOCK | 0o777
SOURCE = "data.source = '../source'"
HOSTILE = [
    # Images
    *(
        Hostile(f"a JPEG cut off at {n} tenths", folder({"tree/x.jpg": JPEG[: len(JPEG) * n // 10]}), BROKEN)
        for n in range(1, 10)
    ),
    Hostile("zero bytes", folder({"tree/x.jpg": b""}), {"empty file": 1}),
    Hostile("a single byte", folder({"tree/x.jpg": b"\xff"}), NOT),
    Hostile("nothing but zeros", folder({"tree/x.jpg": bytes(5000)}), NOT),
    Hostile("text named .jpg", folder({"tree/x.jpg": b"This is no image.\n"}), NOT),
    Hostile("a page named .png", folder({"tree/x.png": b"<html><script>alert(1)</script></html>"}), NOT),
    Hostile("an SVG that reads a file", folder({"tree/x.svg": b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><svg/>'}), NOT),
    Hostile(
        "PostScript",
        folder({"tree/x.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n"}),
        {"unsupported format": 1},
    ),
    Hostile(
        "an image that unpacks to 400 million pixels",
        folder({"tree/x.png": png(20_000, 20_000)}),
        {"too many pixels": 1},
    ),
    Hostile(
        "an image whose header was changed",
        folder({"tree/x.png": png(40, 40).replace(struct.pack(">II", 40, 40), b"\x7f\xff\xff\xff" * 2)}),
        NOT,
    ),
    Hostile(
        "an image with a wrong checksum", folder({"tree/x.png": png(40, 40)[:-13] + b"x" + png(40, 40)[-12:]}), BROKEN
    ),
    Hostile("an animation of 2000 images", folder({"tree/x.gif": gif(2000)}), {}, accepted=1),
    Hostile("a file larger than allowed", folder({"tree/x.jpg": JPEG + bytes(1_000_001)}), {"too large": 1}),
    Hostile("an archive among the images", folder({"tree/x.zip": zlib.compress(b"x")}), NOT),
    # Folders
    Hostile(
        "an empty folder",
        lambda root: root.mkdir(),
        rf"no image of {SOURCE} is accepted; 1 are rejected, such as '/' \(empty folder",
    ),
    Hostile("empty class folders", beside(lambda tree: (tree.parent / "goddess").mkdir()), {"empty folder": 1}),
    Hostile("files but no class folders", only({"1.jpg": JPEG}), r"no image .*, such as '1.jpg' \(no class: "),
    Hostile(
        "one class only", only({"tree/1.jpg": JPEG, "tree/2.jpg": image(2)}), f"{SOURCE} has only the class 'tree'"
    ),
    Hostile(
        "classes that differ only in case",
        folder({"Tree/x.jpg": JPEG}),
        "the classes 'Tree' and 'tree' differ only in case",
    ),
    Hostile("files that differ only in case", folder({"tree/A.jpg": JPEG, "tree/a.JPG": image(78)}), {}, accepted=2),
    Hostile("a folder named ...", folder({"tree/.../x.jpg": JPEG}), {"hidden": 1}),
    Hostile("a class whose name breaks the line", folder({"a\nb/x.jpg": JPEG}), {"class name": 1}),
    Hostile("a class whose name is not UTF-8", folder({os.fsdecode(b"\xff/x.jpg"): JPEG}), {"class name": 1}),
    Hostile(
        "a hundred folders in each other", folder({"a/" * 100 + "x.jpg": JPEG, "a/y.jpg": image(78)}), {}, accepted=2
    ),
    Hostile("one image under two labels", folder({"tree/x.jpg": JPEG, "plank/x.jpg": JPEG}), {"two labels": 2}),
    Hostile("a link in a circle", beside(lambda tree: (tree / "x").symlink_to(tree.parent)), {"link to a folder": 1}),
    Hostile("a link to itself", beside(lambda tree: (tree / "x").symlink_to("x")), {"unreadable": 1}),
    Hostile("a link to nothing", beside(lambda tree: (tree / "x.jpg").symlink_to("nowhere")), {"unreadable": 1}),
    Hostile("a link to a secret", beside(lambda tree: (tree / "x.jpg").symlink_to("/etc/passwd")), NOT),
    Hostile("a link to a device", beside(lambda tree: (tree / "x.jpg").symlink_to("/dev/zero")), {"not a file": 1}),
    Hostile("a pipe that nobody writes to", beside(lambda tree: os.mkfifo(tree / "x.jpg")), {"not a file": 1}),
    Hostile("a socket", beside(bound), {"not a file": 1}),
    *(Hostile(f"a name with {name}", folder({f"tree/{text}": JPEG}), {}, accepted=1) for name, text in NAMES.items()),
    # What is no folder
    Hostile("a source that is missing", nothing, f"{SOURCE} does not exist; expected a folder, an archive"),
    Hostile("an image as source", lambda root: root.write_bytes(JPEG), f"{SOURCE} is a file of unknown kind"),
    Hostile("an empty file as source", lambda root: root.touch(), f"{SOURCE} is a file of unknown kind"),
    Hostile("a pipe as source", os.mkfifo, f"{SOURCE} is a pipe, socket or device"),
    Hostile("a device as source", nothing, "data.source = '/dev/zero' is a pipe, socket or device", source="/dev/zero"),
    Hostile("a source with a NUL", nothing, r"data.source = '\\x00' cannot be read", source="\0"),
    Hostile("a link to itself as source", lambda root: root.symlink_to(root.name), f"{SOURCE} cannot be read"),
    Hostile("a source of 5000 characters", nothing, "data.source = 'x+' cannot be read", source="x" * 5000),
    Hostile(
        "the project itself as source",
        nothing,
        "data.source = '.' and the output data/raw overlap",
        source=".",
    ),
    Hostile("a URL of no known kind", nothing, "data.source = 'evil://x' cannot be opened", source="evil://x"),
    Hostile(
        "a URL where nobody answers",
        nothing,
        "data.source = 'http://127.0.0.1:9/x.zip' cannot be fetched",
        source="http://127.0.0.1:9/x.zip",
    ),
    Hostile(
        "a URL that asks for a cache elsewhere",
        nothing,
        "data.source = 'filecache::file:///x' is a chain",
        source="filecache::file:///x",
    ),
    # Archives
    *(
        Hostile(f"a zip member with {name}", in_zip({member: JPEG}), {kind: 1})
        for name, (member, kind) in MEMBERS.items()
    ),
    *(
        Hostile(f"a tar member with {name}", in_tar({member: JPEG}), {kind: 1})
        for name, (member, kind) in MEMBERS.items()
    ),
    *(
        Hostile(f"a tar member with a name with {name}", in_tar({f"tree/{text}": JPEG}), {}, accepted=1)
        for name, text in NAMES.items()
    ),
    Hostile(
        "a symbolic link in a zip",
        zip_of(zip_info("tree/x.jpg", mode=stat.S_IFLNK | 0o777), b"/etc/passwd"),
        {"link": 1},
    ),
    Hostile("a socket in a zip", zip_of(zip_info("tree/x.jpg", mode=UNIX_SOCKET)), {"not a file": 1}),
    Hostile("an encrypted member", encrypted, {"encrypted": 1}),
    Hostile(
        "a hard link in a tar",
        in_tar({}, tar_info("tree/x.jpg", type=tarfile.LNKTYPE, linkname="../../outside/kept")),
        {"link": 1},
    ),
    Hostile(
        "a symbolic link in a tar",
        in_tar({}, tar_info("tree/x.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        {"link": 1},
    ),
    Hostile(
        "a device in a tar",
        in_tar({}, tar_info("tree/x.jpg", type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
        {"not a file": 1},
    ),
    Hostile("a pipe in a tar", in_tar({}, tar_info("tree/x.jpg", type=tarfile.FIFOTYPE)), {"not a file": 1}),
    Hostile("a name that comes twice", doubled, {"listed twice": 1}),
    Hostile(
        "a link, then a file through it",
        lambda root: tarred(
            root,
            {},
            "w",
            tar_info("out", type=tarfile.SYMTYPE, linkname="../../outside"),
            tar_info("out/x.jpg"),
            tar_info("tree/x.jpg"),
        ),
        r"no image .* 3 are rejected",
    ),
    Hostile("an archive in an archive", in_zip({"tree/x.zip": b"PK\x03\x04" + bytes(100)}), NOT),
    Hostile("a large member of zeros", in_zip({"tree/x.jpg": bytes(8_000_000)}), {"too large": 1}),
    Hostile(
        "a zip that unpacks to too much",
        in_zip({f"tree/{n}": bytes(900_000) for n in range(15)}),
        f"{SOURCE} unpacks to 0.01.* GB or more; expected at most data.max_unpacked",
    ),
    Hostile(
        "a tar that unpacks to too much",
        in_tar({f"tree/{n}": bytes(900_000) for n in range(15)}),
        f"{SOURCE} unpacks to 0.01.* GB or more",
    ),
    Hostile("a zip that is cut off", cut(in_zip({}), 0.8), rf"{SOURCE} is a damaged archive \("),
    Hostile("a tar that is cut off", cut(in_tar({}), 0.8), rf"{SOURCE} is a damaged archive \("),
    Hostile(
        "an archive of nothing", lambda root: zipped(root, {}), f"no image of {SOURCE} is accepted; 0 are rejected"
    ),
    Hostile(
        "a table in an archive that names files outside",
        in_zip({"labels.csv": b"path,label\n../outside/kept,tree\n/etc/passwd,plank\n"}),
        r"no image .* 2 are rejected, such as .* \(missing file: not in the archive",
    ),
    # Tables
    Hostile(
        "a table with missing columns",
        table("", "file,class"),
        f"the table of {SOURCE} has no column path and no column label, only file, class; expected the columns path",
    ),
    Hostile("a table that is no text", table(b"\xff\xfe\x00"), f"the table of {SOURCE} cannot be read"),
    Hostile("an empty table", table(b""), f"the table of {SOURCE} has no column path"),
    Hostile("a table without rows", table(b"path,label\n"), f"the table of {SOURCE} has no rows"),
    Hostile(
        "a table with an unknown split",
        table("tree/x.jpg,tree,tset\n", "path,label,split"),
        r"row 7 .* has the split 'tset'; .* did you mean 'test'\?",
    ),
    Hostile("an unknown path", table("tree/x.jpg,tree\n"), {"missing file": 1}),
    Hostile("an empty label", table("other/1.jpg,\n"), {"no class": 1}),
    Hostile("a label that leads out", table("other/1.jpg,../../outside\n"), {"class name": 1}),
    Hostile("a label that is two dots", table("other/1.jpg,..\n"), {"class name": 1}),
    Hostile("an absolute label", table("other/1.jpg,/tmp/x\n"), {"class name": 1}),
    Hostile("a label with a NUL", table("other/1.jpg,a\0b\n"), {"class name": 1}),
    Hostile("a label that is ingest's own folder", table("other/1.jpg,.waiting\n"), {"class name": 1}),
    Hostile("a label of 300 characters", table(f"other/1.jpg,{'y' * 300}\n"), {"class name": 1}),
    Hostile("a row that comes twice", table("tree/0.jpg,tree\n"), {"listed twice": 1}),
    Hostile("a path under two labels", table("other/1.jpg,tree\nother/1.jpg,plank\n"), {"two labels": 2}),
    Hostile("a row of three fields", table("other/1.jpg,tree,plank\n"), {"broken row": 1}),
    Hostile("a folder as path", table("tree,tree\n"), {"not a file": 1}),
    Hostile("a device as path", table("/dev/zero,tree\n"), {"not a file": 1}),
    Hostile("a secret as path", table("/etc/passwd,tree\n"), NOT),
    Hostile("a path of 5000 characters", table("y" * 5000 + ",tree\n"), {"missing file": 1}),
]
BY_NAME = {hostile.name: hostile for hostile in HOSTILE}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty project with files around it that nobody may touch."""
    lay_out(tmp_path, {"outside/kept": b"kept", "project/.keep": b""})
    (tmp_path / "outside" / "link").symlink_to("kept")
    monkeypatch.chdir(tmp_path / "project")
    # What would be written to these is outside too.
    monkeypatch.setenv("TMPDIR", str(tmp_path / "outside"))
    monkeypatch.setenv("HOME", str(tmp_path / "outside"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "project"


def configure(source: str) -> None:
    settings = {"seed": 1, "threads": 1, "data": DATA | {"source": source}, "split": SPLIT, "report": REPORT}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    params.read.cache_clear()


def around(project: Path) -> dict[str, tuple[int, ...]]:
    """Return what lies around the project, with kind, size, and times of change."""
    found = {}
    for place, folders, names in os.walk(project.parent):
        if Path(place) == project.parent:
            folders.remove(project.name)
        for name in [*folders, *names]:
            path = Path(place, name)
            about = path.lstat()
            found[str(path)] = (about.st_mode, about.st_ino, about.st_size * path.is_file(), about.st_mtime_ns)
    return found


def judge(hostile: Hostile, code: int, errors: list[str]) -> None:
    """Compare what the stage did with what has to come of the source."""
    if isinstance(hostile.outcome, str):
        assert code == 1
        (line,) = errors
        assert line.isprintable()
        assert re.match(f"data: {hostile.outcome}", line), line
        assert not Path("data/raw").exists()
    else:
        assert (code, errors) == (0, [])
        rejects = read_csv(Path("data/rejects.csv"), text=("path", "reason"))
        assert Counter(rejects["reason"].str.split(":").str[0]) == hostile.outcome
        assert (rejects["path"] + rejects["reason"]).map(str.isprintable).all()
        assert len(read_csv(Path("data/manifest.csv"))) == len(GOOD) + hostile.accepted
    assert not Path(".cache/source").exists()
    assert not list(Path("data").glob(".*"))


def exit_code(main: Callable[[], None]) -> int:
    """Run a stage as its command does."""
    try:
        run(main)
    except SystemExit as stop:
        return stop.code
    finally:
        logging.captureWarnings(capture=False)
    return 0


def as_a_user_would(stage: str, **options: Any) -> tuple[int, list[str]]:
    """Run a stage as a process of its own; return its exit status and the lines that are no log."""
    command = [sys.executable, "-m", f"stages.{stage}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.stdout == ""
    return done.returncode, [line for line in done.stderr.splitlines() if not re.match("INFO |WARNING ", line)]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_source_gives_one_line_or_rejects(
    project: Path, hostile: Hostile, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor does a library that decodes images write past Python."""
    hostile.build(project.parent / "source")
    configure(hostile.source)
    before = around(project)
    code = exit_code(ingest.main)
    judge(hostile, code, capfd.readouterr().err.splitlines())
    assert around(project) == before


@pytest.mark.parametrize(
    "name",
    [
        "a JPEG cut off at 5 tenths",
        "a tar member with '..'",
        "a name with bytes that are not UTF-8",
    ],
)
def test_so_does_the_command(project: Path, name: str) -> None:
    hostile = BY_NAME[name]
    hostile.build(project.parent / "source")
    configure(hostile.source)
    before = around(project)
    judge(hostile, *as_a_user_would("ingest"))
    assert around(project) == before


def test_one_image_per_class_is_refused_by_the_split(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_out(project.parent / "source", {"tree/1.jpg": image(1), "plank/1.jpg": image(2)})
    configure("../source")
    assert exit_code(ingest.main) == 0
    assert exit_code(split.main) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "data: class 'plank' has 1 distinct image; expected at least 3, for training, test, validation"
    )


def bound_by_rights() -> None:
    """Give up root's right to read what may not be read: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (capabilities(7))."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.mark.parametrize("locked", ["tree/x.jpg", "locked/", ".", "archive"])
def test_what_may_not_be_read_is_left_out_or_one_line(project: Path, locked: str) -> None:
    source = project.parent / "source"
    if locked == "archive":
        place = zipped(source, GOOD)
    else:
        lay_out(source, GOOD | {"tree/x.jpg": JPEG} | ({"locked/1.jpg": JPEG} if locked == "locked/" else {}))
        place = source / locked
    if locked == "locked/":
        (source / "tree/x.jpg").unlink()
    place.chmod(0)
    configure("../source")
    outcomes: dict[str, str | dict[str, int]] = {
        ".": r"no image of .* 1 are rejected, such as '/' \(unreadable: Permission denied\)",
        "archive": r"data.source = '../source' cannot be read \(Permission denied\); expected .* or its permissions",
    }
    try:
        code, errors = as_a_user_would("ingest", preexec_fn=bound_by_rights)
    finally:
        place.chmod(0o755)
    judge(Hostile(locked, str, outcomes.get(locked, {"unreadable": 1})), code, errors)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_run_killed_while_it_unpacks_leaves_the_next_one_clean(project: Path, kind: str) -> None:
    source = project.parent / "source"
    many = GOOD | {f"many/{number}.jpg": image(number) for number in range(100, 400)}
    (zipped if kind == "zip" else tarred)(source, many)
    configure("../source")
    command = [sys.executable, "-m", "stages.ingest"]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while not Path(".cache/source/members/0").exists():
            assert process.poll() is None
        process.kill()
    assert Path(".cache/source").exists()
    assert exit_code(ingest.main) == 0
    assert len(read_csv(Path("data/manifest.csv"))) == len(many)
    assert not Path(".cache/source").exists()
    assert not list(Path("data").glob(".*"))
