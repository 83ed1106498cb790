"""Publishing the results of a run as Prefect artifacts: tables, the report, links, with secrets redacted."""

import json
import socket
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from flows import dvc, server
from flows.graph import FlowError
from flows.redaction import redact

METRICS = Path("data/metrics.json")
REPORT = Path("data/report/comparison.md")
# By the stage that writes the page.
PAGES = {"compare": Path("data/report/comparison.html"), "audit": Path("data/report/audit.html")}


_Arguments = ParamSpec("_Arguments")


def _never_fatal(publish: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Have `publish` log a warning instead of failing: what it shows is done, and lies in files."""

    @wraps(publish)
    def attempt(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> None:
        fault = "Prefect's server does not answer"
        # Prefect would try each artifact for a minute.
        if server.answers():
            try:
                publish(*arguments, **named)
            except Exception as error:  # noqa: BLE001 (Prefect, its server, the files)
                fault = redact(" ".join(str(error).split()))
            else:
                return
        if not server.is_gone():
            get_run_logger().warning("No %s on Prefect's page: %s", publish.__name__, fault)

    return attempt


@_never_fatal
def durations(ended: Mapping[str, tuple[str, float]]) -> None:
    """Publish how each stage ended and how long it took, the longest first."""
    longest_first = sorted(ended.items(), key=lambda item: item[1][1], reverse=True)
    rows = [{"stage": stage, "state": how, "seconds": round(seconds, 1)} for stage, (how, seconds) in longest_first]
    create_table_artifact(rows, key="durations", description="Seconds of each stage, including DVC's own work")


@_never_fatal
def results(stages: Collection[str]) -> None:
    """Publish the existing results of `stages`; those of other stages may be outdated."""
    if "compare" in stages and METRICS.is_file():
        create_table_artifact(
            ranking(json.loads(METRICS.read_text(encoding="utf-8"))),
            key="ranking",
            description="The declared backbones by test accuracy, each with its interval",
        )
        create_markdown_artifact(
            difference(), key="metrics-diff", description="The metrics compared with the last commit"
        )
    if "compare" in stages and REPORT.is_file():
        report = redact(REPORT.read_text(encoding="utf-8"))
        create_markdown_artifact(report, key="report", description="The report")
    for stage, page in PAGES.items():
        if stage in stages and page.is_file():
            # Browsers do not follow file links from Prefect's pages.
            create_link_artifact(
                page.resolve().as_uri(),
                page.name,
                key=f"{stage}-page",
                description=f"A file on {socket.gethostname()}: open its URL in a browser there",
            )


@_never_fatal
def scores(labels: Mapping[str, int], rejects: Mapping[str, int], drift: str) -> None:
    """Publish the predictions of a run: images by label, rejects by reason, and the sentence on drift."""
    rows = [{"label": redact(label), "images": images} for label, images in sorted(labels.items())]
    create_table_artifact(rows, key="scores", description="New images by predicted label")
    lines = [drift, "", f"{sum(labels.values())} images predicted, {sum(rejects.values())} files left out"]
    lines += [f"- {redact(reason)}: {count}" for reason, count in sorted(rejects.items())]
    create_markdown_artifact("\n".join(lines), key="scores-summary", description="Drift, and what was left out")


def ranking(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the backbones of data/metrics.json as rows, in the order of the report."""
    backbones = [{"backbone": name, **found} for name, found in metrics.items() if isinstance(found, Mapping)]
    backbones.sort(key=lambda row: (-row["accuracy"], row["log_loss"], row["backbone"]))
    return [{"rank": rank, **_redacted(row)} for rank, row in enumerate(backbones, start=1)]


def difference() -> str:
    """Return how the metrics differ from the last commit, in Markdown."""
    try:
        table = dvc.metrics_diff()
    except FlowError as error:
        return f"There is nothing to compare with: {error}"
    rows = table.strip().splitlines()[2:]
    return redact(table) if rows else "No metric differs from the last commit."


def _redacted(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: redact(value) if isinstance(value, str) else value for key, value in row.items()}
