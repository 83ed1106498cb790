"""What was measured on a busy machine is marked wherever it is shown."""

from pathlib import Path

from stages.pages.language import ENGLISH
from stages.report.markdown_summary import markdown
from stages.report.verdict import Evidence
from tests.support import material
from tests.support.contest import evidence, noted

WARNING = "was measured on a busy machine, so the order by latency may be wrong"
AGAIN = "run dvc repro -f -s benchmark@NAME for each when the machine is idle, then dvc repro."
EXPLAINED = "* Measured on a busy machine: on an idle one the network may be faster."


def loaded(prefer: str = "size") -> Evidence:
    """Return evidence of two backbones, one of which was measured under load."""
    found = evidence({"large": range(10), "middle": range(11)}, prefer=prefer)
    found.runs[1].benchmark["latency_under_load"] = True
    return found


def test_a_verdict_by_latency_warns_of_latencies_measured_under_load() -> None:
    assert [note for note in noted(loaded("latency")) if WARNING in note] == [
        f"The latency of middle {WARNING}: {AGAIN}",
    ]
    assert not [note for note in noted(loaded()) if WARNING in note]
    assert not [note for note in noted(evidence({"a": ()}, prefer="latency")) if WARNING in note]


def test_the_page_marks_them_and_explains_the_mark(tmp_path: Path) -> None:
    page = material.page(tmp_path, loaded())
    # In the ranking and in the costs, the latter with the 95th percentile.
    assert page.count(">20.0*</td>") == 2
    assert page.count(">22.4*</td>") == 1
    assert page.count(">90.0</td>") >= 2
    assert page.count(EXPLAINED) == 2
    assert "latency of one image, ms*" in page


def test_a_throughput_measured_under_load_is_marked_alone(tmp_path: Path) -> None:
    found = evidence({"large": range(10), "middle": range(11)})
    found.runs[0].benchmark["throughput_under_load"] = True
    page = material.page(tmp_path, found)
    assert page.count(">14.4*</td>") == 1
    assert page.count("*</td>") == 1


def test_the_summary_marks_them_and_explains_the_mark() -> None:
    found = markdown(material.numbers(loaded()), ENGLISH)
    assert "| 20.0\\* |" in found
    assert f"\n\\{EXPLAINED}" in found
    assert EXPLAINED not in markdown(material.numbers(evidence({"large": (), "middle": ()})), ENGLISH)
