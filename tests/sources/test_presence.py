"""Images that are not where `data.source` says are one line, before DVC looks for them."""

from pathlib import Path

import pytest

from stages.sources.presence import source_faults
from tests.support.web import serve


def test_a_source_that_is_not_there_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (fault,) = source_faults({"data": {"source": f"{tmp_path}/imgaes"}})
    assert fault.received == f"data.source = '{tmp_path}/imgaes' does not exist"
    assert fault.remedy == "did you mean 'images'?"


@pytest.mark.parametrize(
    "source", ["{0}/images", "{0}/imported", "{0}/imported/train", "s3://bucket/a.zip", "", 7, None]
)
def test_a_source_that_is_there_or_may_come_or_is_at_fault_otherwise_is_not(tmp_path: Path, source: object) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "imported.dvc").touch()
    data = {"source": source.format(tmp_path) if isinstance(source, str) else source}
    assert source_faults({"data": data}) == []
    assert source_faults({"data": {}}) == []


@pytest.mark.parametrize("copy", ["project/.dvc/tmp/exps/tmp1", "elsewhere/tree"])
@pytest.mark.parametrize("source", ["../images", "images"])
def test_where_a_copy_of_the_project_has_no_images_the_absolute_path_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: str, source: str
) -> None:
    """Copies are the folders of `dvc exp run --queue` and `--temp`, and git's worktrees."""
    images = (tmp_path / "project" / source).resolve()
    images.mkdir(parents=True)
    (tmp_path / copy).mkdir(parents=True)
    if "exps" not in copy:
        (tmp_path / copy / ".git").write_text(f"gitdir: {tmp_path}/project/.git/worktrees/tree\n")
    monkeypatch.chdir(tmp_path / copy)
    (fault,) = source_faults({"data": {"source": source}})
    assert fault.received == f"data.source = '{source}' does not exist"
    assert fault.remedy == f"write it as '{images}', or set it so by `-S data.source={images}`"


def test_a_repository_that_git_keeps_elsewhere_is_no_worktree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").write_text("gitdir: /w.git\n")
    monkeypatch.chdir(tmp_path)
    (fault,) = source_faults({"data": {"source": "images"}})
    assert fault.received == "data.source = 'images' does not exist"


def test_a_path_with_a_tilde_is_named_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    (fault,) = source_faults({"data": {"source": "~/images"}})
    assert fault.remedy.startswith(f"write it as '{tmp_path}/images'")
    (fault,) = source_faults({"data": {"source": "~/imgaes"}})
    assert fault.remedy == "write the absolute path: DVC does not expand '~'"


def test_a_relative_path_says_from_where_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (fault,) = source_faults({"data": {"source": "../no/images"}})
    assert fault.remedy == f"correct the path, which counts from '{tmp_path}'"


def test_a_source_that_only_a_colleague_has_is_a_fault_at_the_terminal_and_none_of_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text("stages: {ingest: {deps: [{path: data/checked.txt}, {path: ../images}]}}")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    (fault,) = source_faults({"data": {"source": "../images"}})
    assert fault.remedy.endswith("go on with a colleague's results: `dvc repro --pull --allow-missing`")
    monkeypatch.setenv("DVC_STAGE", "check")
    assert source_faults({"data": {"source": "../images"}}) == []
    # Another path than that of the results.
    assert len(source_faults({"data": {"source": "../imgaes"}})) == 1


@pytest.mark.parametrize("lock", [None, "{", "[]", "stages: {}", "stages: {ingest: {}}"])
def test_without_results_of_the_source_it_is_a_fault_of_the_stage_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "check")
    if lock is not None:
        Path("dvc.lock").write_text(lock)
    (fault,) = source_faults({"data": {"source": "images"}})
    assert fault.received == "data.source = 'images' does not exist"


def test_what_would_stop_dvc_in_the_source_is_a_line_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to("nowhere")
    found = source_faults({"data": {"source": str(tmp_path)}})
    assert [fault.received.partition(" in ")[0] for fault in found] == ["'a'", "'b'"]


def test_a_web_server_that_has_no_such_file_or_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with serve() as web:
        web.files["a.zip"], web.redirects["moved.zip"] = b"x" * 1_000_000, "http://127.0.0.1:9/"
        assert source_faults({"data": {"source": f"{web.url}/a.zip"}}) == []
        assert web.requests == ["HEAD /a.zip"]
        assert source_faults({"data": {"source": f"{web.url}/moved.zip"}}) == []
        web.broken.add("broken.zip")
        for name, status in (("gone.zip", 404), ("broken.zip", 500)):
            (fault,) = source_faults({"data": {"source": f"{web.url}/{name}"}})
            assert str(fault) == (
                f"data.source = '{web.url}/{name}' answers {status}; expected a server that answers with the file; "
                "correct the URL, or run again later"
            )
        # A server that knows no HEAD, or knows it wrongly.
        web.failing["a.zip"] = 1
        assert source_faults({"data": {"source": f"{web.url}/a.zip"}}) == []
        web.login = "anna:secret"
        assert source_faults({"data": {"source": f"{web.url}/a.zip"}}) == []

    Path("dvc.lock").write_text(f"stages: {{ingest: {{deps: [{{path: '{web.url}/a.zip'}}]}}}}")
    (fault,) = source_faults({"data": {"source": f"{web.url}/a.zip"}})
    assert fault.received.startswith(f"data.source = '{web.url}/a.zip' cannot be reached (ConnectError: ")
    assert fault.remedy.endswith("; earlier results are kept, and `dvc repro --pull --allow-missing` goes on with them")
    # DVC itself goes on without it.
    monkeypatch.setenv("DVC_STAGE", "check")
    assert source_faults({"data": {"source": f"{web.url}/a.zip"}}) == []
