import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.client.schemas.objects import State

from flows import publish
from flows.publish import difference, ranking
from tests.flows.runs import artifacts

METRICS = {
    "best": "b",
    "a": {"accuracy": 0.5, "log_loss": 1.0, "weights": "https://user:pa55@example.com/w"},
    "b": {"accuracy": 0.75, "log_loss": 2.0, "weights": "imagenet"},
    "c": {"accuracy": 0.5, "log_loss": 0.5, "weights": "imagenet"},
}


@pytest.fixture
def results(project: Path) -> Path:
    """A project with the files that the real one's stages write."""
    (project / "data/report").mkdir(parents=True)
    (project / "data/metrics.json").write_text(json.dumps(METRICS))
    (project / "data/report/comparison.md").write_text("# The ranking, from https://user:pa55@example.com")
    for name in ("comparison", "audit"):
        (project / f"data/report/{name}.html").write_text("<p>page</p>")
    (project / "dvc.yaml").write_text("metrics: [data/metrics.json]")
    return project


def commit() -> None:
    subprocess.run(["git", "add", "--all"], check=True)
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.com"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--message", "results"], check=True)


def published(stages: list[str]) -> dict[str, tuple[str, str]]:
    """Return the type and the text of each artifact of a flow that publishes what `stages` have made."""

    @flow
    def make() -> None:
        publish.results(stages)

    state: State[Any] = make(return_state=True)
    return {key: (artifact.type or "", str(artifact.data)) for key, artifact in artifacts(state).items()}


def test_backbones_are_ranked_as_the_report_ranks_them() -> None:
    rows = ranking(METRICS)
    assert [(row["rank"], row["backbone"], row["accuracy"]) for row in rows] == [
        (1, "b", 0.75), (2, "c", 0.5), (3, "a", 0.5),
    ]  # fmt: skip
    assert rows[2]["weights"] == "https://***@example.com/w"


def test_the_metrics_are_compared_with_the_last_commit(results: Path) -> None:
    commit()
    assert difference() == "No metric differs from the last commit."
    (results / "data/metrics.json").write_text(json.dumps(METRICS | {"a": {"accuracy": 0.25, "log_loss": 1.0}}))
    assert re.search(r"\| data/metrics.json \| a.accuracy \| 0.5 +\| 0.25 +\| -0.25 +\|", difference())


def test_without_git_there_is_nothing_to_compare_with(results: Path) -> None:
    shutil.rmtree(results / ".git")
    assert difference().startswith("There is nothing to compare with: `dvc metrics` failed: Only supported for Git")


@pytest.mark.usefixtures("prefect_server")
def test_the_page_of_a_run_shows_its_results_without_secrets(results: Path) -> None:
    found = published(["audit", "compare"])
    assert {key: kind for key, (kind, _) in found.items()} == {
        "ranking": "table",
        "metrics-diff": "markdown",
        "report": "markdown",
        "compare-page": "markdown",
        "audit-page": "markdown",
    }
    assert [row["backbone"] for row in json.loads(found["ranking"][1])] == ["b", "c", "a"]
    assert found["report"][1] == "# The ranking, from https://***@example.com"
    assert found["audit-page"][1] == f"[audit.html](file://{results}/data/report/audit.html)"
    assert not any("pa55" in text for _, text in found.values())


@pytest.mark.usefixtures("prefect_server")
def test_what_a_run_has_not_made_is_not_shown(results: Path) -> None:
    assert set(published(["audit"])) == {"audit-page"}
    (results / "data/report/audit.html").unlink()
    assert published(["audit"]) == {}


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("refused"),
        httpx.HTTPStatusError("409", request=httpx.Request("POST", "http://x"), response=httpx.Response(409)),
        json.JSONDecodeError("no JSON", "", 0),
        OSError(28, "No space left on device"),
        KeyError("accuracy"),
        RuntimeError("of Prefect's"),
    ],
)
def test_nothing_that_goes_wrong_with_publishing_fails_a_run(
    results: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(publish, "create_table_artifact", fail)
    assert published(["compare"]) == {}
    assert publish.ranking(METRICS)


@pytest.mark.usefixtures("prefect_server")
def test_nothing_is_sent_to_a_server_that_does_not_answer(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish.server, "answers", lambda: False)
    assert published(["compare", "audit"]) == {}
