"""Figures are SVG that a page can hold: themed, named for those who cannot see them, and repeatable."""

from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from stages.results import figures
from stages.results.runs import Run
from tests.results import artefacts

TWO = ("cat", "dog")


def run(backbone: str = "vgg16", latency: float = 10.0, **changes: object) -> Run:
    table = artefacts.answers(["cat", "dog", "dog"], ["cat", "cat", "dog"], TWO)
    return artefacts.run(backbone, table, TWO, **({"benchmark": artefacts.benchmark(latency, 1000)} | changes))


def folded(backbone: str = "vgg16") -> Run:
    table = artefacts.answers(["cat", "dog", "dog"] * 4, ["cat", "cat", "dog"] * 4, TWO)
    return artefacts.run(backbone, table, TWO, count=4)


def drawings(found: Run) -> list[str]:
    return [
        figures.accuracy([found], 0.5), figures.cost([found]), figures.curves(found, 2.0), figures.folds([folded()]),
    ]  # fmt: skip


def texts(drawing: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]


def test_a_figure_takes_the_colours_of_the_page_and_says_what_it_shows() -> None:
    for drawing in drawings(run()):
        root = ET.fromstring(drawing)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        assert "currentColor" in drawing
        assert "#000000" not in drawing
        assert "<metadata" not in drawing
        assert "<?xml" not in drawing


def test_the_same_numbers_draw_the_same_bytes_whatever_the_users_style() -> None:
    first = drawings(run())
    with mpl.rc_context({"svg.fonttype": "path", "font.size": 30, "axes.facecolor": "red"}):
        assert drawings(run()) == first
        assert mpl.rcParams["font.size"] == 30


def test_two_figures_on_a_page_share_no_identifier() -> None:
    identifiers = [
        {element.attrib["id"] for element in ET.fromstring(drawing).iter() if "id" in element.attrib}
        for drawing in (figures.curves(run("a"), 2.0), figures.curves(run("b"), 2.0), figures.cost([run("a")]))
    ]
    assert all(identifiers)
    assert not identifiers[0] & identifiers[1]
    assert not identifiers[0] & identifiers[2]


def test_every_fold_is_a_dot() -> None:
    # Each marker is drawn by one `use` of its shape; the tick of the mean is one more, and so are those of the axis.
    def marks(count: int) -> int:
        found = folded()
        found.metrics["folds"]["accuracy"] = [0.5 + place / 100 for place in range(count)]
        return sum(1 for element in ET.fromstring(figures.folds([found])).iter() if element.tag.endswith("}use"))

    assert marks(7) - marks(4) == 3
    assert {"vgg16", "scratch"} <= set(texts(figures.folds([folded("vgg16"), folded("scratch")])))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x_1$ and $", 'a"b&c', "שלום", "猫🐈", "a\x00\nb"])
def test_any_name_is_shown_as_text(name: str) -> None:
    shown = "a\\x00\\nb" if name.startswith("a\x00") else name
    assert any(text == shown or text == shown[:23] + "…" for text in texts(figures.accuracy([run(name)], 0.5)))
    assert ET.fromstring(figures.curves(run(name), 2.0)).attrib["aria-label"].startswith(f"Learning curves of {shown}")


def test_a_long_name_is_shortened() -> None:
    assert "y" * 23 + "…" in texts(figures.accuracy([run("y" * 200)], 0.5))


def test_costs_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    near, far = figures.cost([run(latency=10), run(latency=30)]), figures.cost([run(latency=1), run(latency=100)])
    assert "0" in texts(near)
    assert {"1", "10", "100"} <= set(texts(far))
    assert "0" not in texts(far)


def test_fine_tuning_is_marked_where_there_is_one() -> None:
    assert "fine-tuning" in texts(figures.curves(run(), 2.0))
    assert "fine-tuning" not in texts(figures.curves(run(history=artefacts.history(1, 5, 0)), 2.0))


def test_a_single_epoch_and_a_loss_that_left_the_numbers_can_be_drawn() -> None:
    diverged = artefacts.history(1, 1, 0).assign(loss=np.nan, val_loss=np.nan)
    assert "epoch" in texts(figures.curves(run(history=diverged), figures.top_of_losses([run(history=diverged)])))


def test_the_axis_of_the_loss_holds_nearly_all_of_it() -> None:
    assert figures.top_of_losses([run()]) == pytest.approx(1.65, abs=0.15)
    nothing = artefacts.history(1).assign(loss=0.0, val_loss=0.0)
    assert figures.top_of_losses([run(history=nothing)]) == 1
