"""Figures are drawings that a page can hold: themed, named for those who cannot see them, and repeatable."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from stages.core.intervals import Interval
from stages.pages.catalogues import named
from stages.pages.language import ENGLISH
from stages.pages.vega import Figure, logarithmic_ticks
from stages.report.figures import all_figures, comparison
from stages.report.figures import backbone as backbone_figures
from stages.report.figures.context import FigureContext
from stages.report.runs import Run
from tests.support import artefacts

SVG = "{http://www.w3.org/2000/svg}"
TWO = ("cat", "dog")


def run(backbone: str = "vgg16", **changes: object) -> Run:
    table = artefacts.answers(["cat", "dog", "dog"], ["cat", "cat", "dog"], TWO)
    return artefacts.run(backbone, table, TWO, **changes)


def folded(backbone: str = "vgg16", count: int = 4) -> Run:
    table = artefacts.answers(["cat", "dog", "dog"] * 4, ["cat", "cat", "dog"] * 4, TWO)
    return artefacts.run(backbone, table, TWO, count=count)


def context(*runs: Run, chosen: str | None = None) -> FigureContext:
    return FigureContext(runs, chosen, ENGLISH)


def mapped(classes: tuple[str, ...] = TWO) -> pd.DataFrame:
    """Return a place for two images of each class, of which the second is taken for the first class."""
    table = artefacts.answers(list(classes) * 2, list(classes) + [classes[0]] * len(classes), classes)
    test = table[table["split"] == "test"]
    return artefacts.mapped(test).assign(predicted=test["predicted"], confidence=1.0)


def drawings(found: Run) -> list[Figure]:
    one = context(found)
    return [
        comparison.accuracy(one, 0.5),
        comparison.folds(one, [found]),
        comparison.cost(one, "latency", "latency, ms", {found.backbone: 10.0}),
        comparison.training_images(one),
        comparison.ranking_agreement(one, {found.backbone: (0.5, Interval(0.4, 0.6))}),
        backbone_figures.curves(one, found, "accuracy", 1.0),
        backbone_figures.curves(one, found, "loss", 2.0),
        backbone_figures.reliability(one, found),
        backbone_figures.embedding(one, found, mapped(), {}),
    ]


def elements(figure: Figure, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(figure.drawing).iter(SVG + tag))


def texts(figure: Figure) -> list[str]:
    return [element.text or "" for element in elements(figure, "text")]


def marks(figure: Figure, kind: str) -> list[ET.Element]:
    """Return the marks that are named for those who cannot see them, such as every "circle"."""
    return [element for element in ET.fromstring(figure.drawing).iter() if element.get("aria-roledescription") == kind]


def intervals(figure: Figure) -> int:
    """Return how many intervals are drawn as rules."""
    groups = (g for g in elements(figure, "g") if g.get("class", "").startswith("mark-rule role-mark"))
    return sum(len(list(group)) for group in groups)


def front(*points: tuple[float, float]) -> int:
    """Return how many backbones of such costs and accuracies the front joins."""
    runs = []
    for number, (_, accuracy) in enumerate(points):
        found = run(str(number))
        found.metrics["accuracy"] = accuracy
        runs.append(found)
    costs = {str(number): cost for number, (cost, _) in enumerate(points)}
    drawn = ET.fromstring(comparison.cost(context(*runs), "size", "MB", costs).drawing)
    (line,) = (group for group in drawn.iter(SVG + "g") if "mark-line" in group.get("class", ""))
    steps = [path.get("d", "") for path in line.iter(SVG + "path")]
    # From one point to the next it goes across, then up.
    return (1 + len(re.findall("[LMHV]", steps[0]))) // 2


def test_a_figure_takes_the_colours_of_the_page_and_says_what_it_shows() -> None:
    for figure in drawings(folded()):
        root = ET.fromstring(figure.drawing)
        assert figure.label
        assert figure.specification["description"] == figure.label
        assert "currentColor" in figure.drawing
        assert not re.search(r'(fill|stroke)="(black|white|#000|#fff)', figure.drawing)
        assert "width" not in root.attrib
        assert root.attrib["style"].startswith("width: ")


def test_the_same_numbers_draw_the_same_bytes_and_say_so_to_the_browser() -> None:
    assert drawings(folded()) == drawings(folded())


def test_two_figures_on_a_page_share_no_identifier() -> None:
    both = context(run("a"), run("b"))
    found = [
        set(re.findall(r'id="([^"]+)"', backbone_figures.curves(both, each, "loss", 2.0).drawing))
        for each in both.ranking
    ]
    assert all(found)
    assert not found[0] & found[1]
    for figure in drawings(folded()):
        assert set(re.findall(r"url\(#([^)]+)\)", figure.drawing)) <= set(re.findall(r'id="([^"]+)"', figure.drawing))


def test_a_figure_is_drawn_anew_as_wide_as_there_is_room() -> None:
    for figure in drawings(folded()):
        assert figure.specification["width"] == "container"
        assert "config" not in figure.specification


def test_every_backbone_is_a_row_and_every_repeat_a_tick() -> None:
    found = run()
    found.metrics["repeats"]["accuracy"] = [0.6, 0.5, 0.4, 0.3]
    figure = comparison.accuracy(context(found, run("b")), 0.5)
    assert len(marks(figure, "circle")) == 2
    ticks = [group for group in elements(figure, "g") if group.get("class", "").startswith("mark-rect role-mark")]
    assert [len(list(group)) for group in ticks] == [3 + 2]
    assert {"vgg16", "b"} <= set(texts(figure))


def test_every_fold_is_a_dot() -> None:
    assert len(marks(comparison.folds(context(folded()), [folded()]), "circle")) == 4
    assert len(marks(comparison.folds(context(folded(count=3)), [folded(count=3)]), "circle")) == 3


def test_the_chosen_backbone_stands_out_and_so_does_one_trained_from_scratch() -> None:
    scratch = run("scratch", provenance=artefacts.provenance("scratch", TWO, 1000, "none"))
    figure = comparison.accuracy(context(run("a"), run("b"), scratch, chosen="b"), 0.5)
    assert [mark.get("fill") for mark in marks(figure, "circle")] == ["var(--other)", "var(--right)", "var(--wrong)"]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x_1$ and $", 'a"b&c', "שלום", "猫👩‍🚀", "a\x00\nb"])
def test_any_name_is_shown_as_text(name: str) -> None:
    shown = "a\\x00\\nb" if name.startswith("a\x00") else name
    assert any(
        text == shown or (text.endswith("…") and shown.startswith(text[:-1]))
        for text in texts(comparison.accuracy(context(run(name)), 0.5))
    )
    assert (
        backbone_figures.curves(context(run(name)), run(name), "loss", 2.0).label == f"Loss of {shown} over its epochs."
    )


def test_a_long_name_is_shortened() -> None:
    (found,) = (text for text in texts(comparison.accuracy(context(run("y" * 200)), 0.5)) if text.startswith("y"))
    assert 10 < len(found) < 40
    assert found.endswith("…")


def test_costs_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    both = context(run("a"), run("b"))
    near, far = (comparison.cost(both, "latency", "ms", {"a": low, "b": high}) for low, high in ((10, 30), (1, 100)))
    assert "0" in texts(near)
    assert {"1", "10", "100"} <= set(texts(far))
    assert "0" not in texts(far)
    assert logarithmic_ticks(3, 40) == [1, 2, 5, 10, 20, 50, 100, 200, 500]


def test_a_cost_that_was_measured_of_some_shows_these_and_of_none_is_not_drawn() -> None:
    some, none = run("a"), run("b")
    some.benchmark["flops"], none.benchmark["flops"] = 1e9, None
    assert len(marks(comparison.cost(context(some, none), "flops", "GFLOPs", {"a": 1.0}), "circle")) == 1
    assert [figure.name for figure in all_figures.draw(context(none), [], {}, mapped()[:0], {}).costs] == [
        "cost-latency",
        "cost-size",
    ]


def test_before_and_after_are_drawn_of_those_that_have_both() -> None:
    both = context(run("a"), run("b"), run("c"))
    found = {"a": (0.9, Interval(0.8, 1.0)), "c": (0.5, Interval(0.4, 0.6))}
    assert [element.text for element in elements(comparison.ranking_agreement(both, found), "text")][-2:] == ["1", "3"]
    assert all_figures.draw(both, [], found, mapped()[:0], {}).ranking_agreement is not None
    # One point shows no order.
    assert all_figures.draw(both, [], {"a": found["a"]}, mapped()[:0], {}).ranking_agreement is None


def test_the_front_leaves_out_what_is_dearer_and_no_better() -> None:
    assert front((1, 0.5), (2, 0.7), (4, 0.9)) == 3
    assert front((1, 0.5), (2, 0.4), (4, 0.9)) == 2
    assert front((1, 0.5), (2, 0.5), (1, 0.4)) == 1
    assert front((9, 0.9), (1, 0.9)) == 1


def test_each_backbone_has_a_point_for_each_share_of_the_training_images() -> None:
    figure = comparison.training_images(context(run("a"), run("b")))
    assert len(marks(figure, "circle")) == 2 * 4
    assert {"33", "82", "165", "330"} <= set(texts(figure))


def test_what_twice_the_images_would_bring_is_drawn_where_it_is_known() -> None:
    known, unknown = run("a"), run("b")
    known.metrics["learning_curve"] = artefacts.foreseen(None)
    unknown.metrics["learning_curve"] = artefacts.foreseen("missed")
    figure = comparison.training_images(context(known, unknown))
    assert len(marks(figure, "circle")) == 2 * 4
    assert "660" in texts(figure)
    # An interval at each point, and at the forecast.
    assert intervals(figure) == 2 * 4 + 1
    assert intervals(comparison.training_images(context(unknown))) == 4


def test_what_stands_out_carries_its_place_at_all_the_images_it_learnt_from_however_many_these_are() -> None:
    scratch = run("scratch", provenance=artefacts.provenance("scratch", TWO, 1000, "none"))
    figure = comparison.training_images(context(run("a"), scratch, chosen="a"))
    # 330 and 220 images.
    assert texts(figure)[-2:] == ["1", "2"]


def test_fine_tuning_is_marked_where_there_is_one() -> None:
    def rectangles(found: Run) -> int:
        drawn = backbone_figures.curves(context(found), found, "accuracy", 1.0)
        (shading,) = (g for g in elements(drawn, "g") if g.get("class", "").startswith("mark-rect role-mark"))
        return len(list(shading))

    assert rectangles(run()) == 1
    assert rectangles(run(history=artefacts.history(1, 5, 0))) == 0


def test_the_best_epoch_is_a_line_and_there_is_none_where_the_beginning_was_better() -> None:
    def lines(best: int) -> int:
        found = run(provenance=artefacts.provenance("vgg16", TWO, 1000, "imagenet") | {"best_epoch": best})
        drawn = backbone_figures.curves(context(found), found, "accuracy", 1.0)
        (rules,) = (g for g in elements(drawn, "g") if g.get("class", "").startswith("mark-rule role-mark"))
        return len(list(rules))

    assert (lines(13), lines(0)) == (1, 0)


def test_epochs_of_phase_2_are_counted_on_from_those_of_the_dense_head() -> None:
    facts = artefacts.provenance("a", TWO, 1000, "imagenet", "unfrozen") | {"best_epoch": 3}
    assert run("a", provenance=facts).best_epoch == 14 + 3
    assert run("a", provenance=facts, history=artefacts.history(1, 0, 5)).best_epoch == 3
    assert run("a", provenance=facts | {"head": artefacts.head("dense")}).best_epoch == 3
    assert run("a", provenance=facts | {"best_epoch": 0}).best_epoch is None


def test_what_was_not_trained_in_epochs_has_no_curves() -> None:
    linear = run("a", provenance=artefacts.provenance("a", TWO, 1000, "imagenet", "linear"))
    assert set(all_figures.draw(context(linear, run("b")), [], {}, mapped()[:0], {}).curves) == {"b"}
    assert all_figures.draw(context(linear), [], {}, mapped()[:0], {}).curves == {}


def test_a_single_epoch_and_a_loss_that_left_the_numbers_can_be_drawn() -> None:
    diverged = run(history=artefacts.history(1, 1, 0).assign(loss=np.nan, val_loss=np.nan))
    assert "epoch" in texts(
        backbone_figures.curves(context(diverged), diverged, "loss", backbone_figures.top_of_losses([diverged]))
    )
    assert len(marks(backbone_figures.curves(context(diverged), diverged, "accuracy", 1.0), "circle")) == 2


def test_the_axis_of_the_loss_holds_nearly_all_of_it() -> None:
    assert backbone_figures.top_of_losses([run()]) == pytest.approx(1.65, abs=0.15)
    nothing = artefacts.history(1).assign(loss=0.0, val_loss=0.0)
    assert backbone_figures.top_of_losses([run(history=nothing)]) == 1


def test_reliability_has_a_point_for_each_bin_with_images_before_and_after_scaling() -> None:
    found = artefacts.nine()[0]
    figure = backbone_figures.reliability(context(found), found)
    expected = sum((table["images"] > 0).sum() for table in (found.calibration, found.calibration_scaled))
    assert len(marks(figure, "circle")) == expected


def test_the_map_colours_few_classes_and_of_many_what_is_right_and_wrong() -> None:
    few = backbone_figures.embedding(context(run()), run(), mapped(), {})
    assert {"cat", "dog", "right", "wrong"} <= set(texts(few))
    many = backbone_figures.embedding(context(run()), run(), mapped(tuple(map(str, range(11)))), {})
    assert {"right", "wrong"} <= set(texts(many))
    assert "5" not in texts(many)


def test_a_point_of_the_map_carries_its_image_where_there_is_one() -> None:
    figure = backbone_figures.embedding(context(run()), run(), mapped(), {"1.jpg": "data:image/webp;base64,AA"})
    (rows,) = figure.specification["datasets"].values()
    assert [row["image"] for row in rows] == [None, "data:image/webp;base64,AA", None, None]


def test_figures_speak_the_language_of_the_report() -> None:
    found = FigureContext([run()], None, named("es"))
    assert "exactitud en la prueba" in texts(comparison.accuracy(found, 0.5))
    assert "1,5" in texts(backbone_figures.curves(found, found.ranking[0], "loss", 2.0))
