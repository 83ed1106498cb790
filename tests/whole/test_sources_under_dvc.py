"""What DVC notices of a source: images under DVC, imported ones, and an archive on a web server."""

from pathlib import Path

import pytest

from tests.stages.test_ingest import image, lay_out
from tests.support.archives import zipped
from tests.support.clone import Clone, Done
from tests.support.web import serve

FILES = {f"{label}/{number}.jpg": image(ord(label[0]) + number) for label in ("tree", "plank") for number in range(3)}
INGEST = {"check", "ingest"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = Clone.of_project(tmp_path_factory.mktemp("sources") / "template")
    clone.commit("as it is")
    return clone


@pytest.fixture
def clone(template: Clone, tmp_path: Path) -> Clone:
    return template.clone(tmp_path / "clone")


def ingested(clone: Clone) -> Done:
    done = clone.dvc("repro", "ingest")
    assert done.code == 0, done.output + done.errors
    return done


def images(clone: Clone) -> int:
    return len(clone.text("data/manifest.csv").splitlines()) - 1


def changed(clone: Clone) -> str:
    return clone.dvc("status", "ingest").output


def test_images_are_watched_one_by_one_under_dvc_or_not_and_with_their_table(clone: Clone) -> None:
    lay_out(clone.folder / "images", FILES)
    assert clone.dvc("add", "images").code == 0
    clone.set({"data": {"source": "images"}})
    assert ingested(clone).ran == INGEST
    assert images(clone) == 6
    assert changed(clone).strip() == "Data and pipelines are up to date."
    (clone.folder / "images/tree/0.jpg").unlink()
    (clone.folder / "images/tree/0.jpg").write_bytes(image(99))
    assert "images" in changed(clone)
    assert ingested(clone).ran == {"ingest"}

    # Without DVC, in a folder with a table.
    (clone.folder / "images.dvc").unlink()
    rows = "path,label\n" + "".join(f"{path},{path.split('/')[0]}\n" for path in FILES)
    lay_out(clone.folder / "images", {"labels.csv": f"{rows}gone.jpg,tree\n".encode()})
    assert ingested(clone).ran == {"ingest"}
    assert clone.text("data/rejects.csv") == "path,label,reason\ngone.jpg,,missing file: No such file or directory\n"
    lay_out(clone.folder / "images", {"plank/1.jpg": image(98)})
    assert "images" in changed(clone)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_an_imported_source_brings_new_images_with_dvc_update(clone: Clone, tmp_path: Path, kind: str) -> None:
    shared = tmp_path / "shared"

    def publish(files: dict[str, bytes]) -> Path:
        lay_out(shared, files)
        return shared if kind == "folder" else zipped(tmp_path / "shared.zip", files)

    place = publish(FILES)
    done = clone.dvc("import-url", str(place), "images")
    assert done.code == 0, done.errors
    clone.set({"data": {"source": "images"}})
    ingested(clone)
    assert images(clone) == 6
    publish(FILES | {"tree/new.jpg": image(99)})
    assert clone.dvc("update", "images.dvc").code == 0
    assert ingested(clone).ran == {"ingest"}
    assert images(clone) == 7


def test_a_changed_archive_on_a_web_server_is_noticed(clone: Clone, tmp_path: Path) -> None:
    with serve() as web:
        web.files["poses.zip"] = zipped(tmp_path / "a.zip", FILES).read_bytes()
        clone.set({"data": {"source": f"{web.url}/poses.zip"}})
        assert ingested(clone).ran == INGEST
        assert images(clone) == 6
        assert changed(clone).strip() == "Data and pipelines are up to date."
        web.files["poses.zip"] = zipped(tmp_path / "a.zip", FILES | {"tree/new.jpg": image(99)}).read_bytes()
        assert "poses.zip" in changed(clone)
        assert ingested(clone).ran == {"ingest"}
        assert images(clone) == 7
        del web.files["poses.zip"]
        assert clone.dvc("repro", "ingest").code != 0


def test_experiments_in_a_folder_of_dvc_read_images_outside_the_project_by_an_absolute_path(
    clone: Clone, tmp_path: Path
) -> None:
    lay_out(tmp_path / "images", FILES)
    clone.set({"data": {"source": "../images"}})
    clone.commit("images")
    temporary = ("exp", "run", "--temp", "--set-param", "data.min_pixels=33", "ingest")
    done = clone.dvc(*temporary)
    assert done.code
    assert f"write it as '{tmp_path}/images', or set it so by `-S data.source={tmp_path}/images`" in done.errors
    done = clone.dvc(*temporary, "--set-param", f"data.source={tmp_path}/images")
    assert done.code == 0, done.errors
    clone.set({"data": {"source": str(tmp_path / "images")}})
    clone.commit("absolute")
    done = clone.dvc(*temporary)
    assert done.code == 0, done.errors


def test_a_colleague_without_the_images_goes_on_from_the_results(clone: Clone, tmp_path: Path) -> None:
    lay_out(tmp_path / "images", FILES)
    clone.set({"data": {"source": "../images"}})
    assert clone.dvc("remote", "add", "--default", "store", str(tmp_path / "store")).code == 0
    assert clone.dvc("repro", "split").code == 0
    assert clone.dvc("push", "check", "ingest", "split").code == 0
    clone.commit("results")
    (tmp_path / "colleague").mkdir()
    colleague = clone.clone(tmp_path / "colleague/clone")

    done = colleague.program("-m", "stages.check")
    assert done.code == 1
    assert done.errors.count("\n") == 1
    assert done.errors.strip().endswith("a colleague's results: `dvc repro --pull --allow-missing`")

    done = colleague.dvc("repro", "--pull", "--allow-missing", "split")
    assert (done.code, done.ran) == (0, set()), done.errors
    # Another parameter reruns what it affects, and the images are not needed for that.
    colleague.set({"split": {"test": 0.4}})
    done = colleague.dvc("repro", "--pull", "--allow-missing", "split")
    assert (done.code, done.ran) == (0, {"check", "split"}), done.errors
