"""What a run has made, as artifacts on its page in Prefect: tables, the report, links, with secrets masked."""

import json
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from flows import commands
from flows.graph import FlowError
from flows.masking import mask

METRICS = Path("data/metrics.json")
REPORT = Path("data/report/comparison.md")
# By the stage that writes the page.
PAGES = {"compare": Path("data/report/comparison.html"), "audit": Path("data/report/audit.html")}


def durations(ended: Mapping[str, tuple[str, float]]) -> None:
    """Show how each stage ended and how long it took, the longest first."""
    longest_first = sorted(ended.items(), key=lambda item: item[1][1], reverse=True)
    rows = [{"stage": stage, "state": how, "seconds": round(seconds, 1)} for stage, (how, seconds) in longest_first]
    create_table_artifact(rows, key="durations", description="Seconds of each stage, DVC's own work included")


def results(stages: Collection[str]) -> None:
    """Show what `stages` have made, as far as it is there: what others made may be of another day."""
    if "compare" in stages and METRICS.is_file():
        create_table_artifact(
            ranking(json.loads(METRICS.read_text(encoding="utf-8"))),
            key="ranking",
            description="The declared backbones by test accuracy, each with its interval",
        )
        create_markdown_artifact(
            difference(), key="metrics-diff", description="The metrics beside those of the last commit"
        )
    if "compare" in stages and REPORT.is_file():
        report = mask(REPORT.read_text(encoding="utf-8"))
        create_markdown_artifact(report, key="report", description="The report")
    for stage, page in PAGES.items():
        if stage in stages and page.is_file():
            # Browsers follow no such link from a page of Prefect's.
            create_link_artifact(
                page.resolve().as_uri(),
                page.name,
                key=f"{stage}-page",
                description=f"A file on {socket.gethostname()}: copy its address into a browser there",
            )


def scores(labels: Mapping[str, int], rejects: Mapping[str, int], said: str) -> None:
    """Show what a run has predicted: how many images of each label, how many were left out why, what it says."""
    rows = [{"label": mask(label), "images": images} for label, images in sorted(labels.items())]
    create_table_artifact(rows, key="scores", description="New images by the label that they were given")
    lines = [said, "", f"{sum(labels.values())} images predicted, {sum(rejects.values())} files left out"]
    lines += [f"- {mask(reason)}: {count}" for reason, count in sorted(rejects.items())]
    create_markdown_artifact("\n".join(lines), key="scores-summary", description="Drift, and what was left out")


def ranking(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the backbones of data/metrics.json as rows, ordered as the report orders them."""
    backbones = [{"backbone": name, **found} for name, found in metrics.items() if isinstance(found, Mapping)]
    backbones.sort(key=lambda row: (-row["accuracy"], row["log_loss"], row["backbone"]))
    return [{"rank": rank, **_masked(row)} for rank, row in enumerate(backbones, start=1)]


def difference() -> str:
    """Return how the metrics differ from the last commit, in Markdown."""
    try:
        table = commands.metrics_diff()
    except FlowError as error:
        return f"There is nothing to compare with: {error}"
    rows = table.strip().splitlines()[2:]
    return mask(table) if rows else "No metric differs from the last commit."


def _masked(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: mask(value) if isinstance(value, str) else value for key, value in row.items()}
