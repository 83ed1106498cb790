"""Backbones are ranked before training by what their linear heads say of the same images."""

import re

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.core.measure import Measure
from stages.statistics import ranking as module
from stages.statistics.ranking import COLUMNS, Probe, best, contenders, lines

MEASURE = Measure("accuracy")


def probe(wrong: int, log_loss: float = 0.5, images: int = 100, weights: str = "imagenet") -> Probe:
    """Return a probe that is wrong on the first `wrong` images."""
    labels = ["cat", "dog"] * (images // 2)
    predicted = ["fox"] * wrong + labels[wrong:]
    table = pd.DataFrame(
        {"file": [f"{number}.jpg" for number in range(images)], "label": labels, "predicted": predicted}
    )
    scores = {"log_loss": log_loss, "logme": -log_loss} if images else {"log_loss": None, "logme": None}
    return Probe(scores | {"weights": weights}, table)


def ranking(probes: dict[str, Probe], confidence: float) -> pd.DataFrame:
    """Return the ranking by images that are groups of their own."""
    files = [f"{number}.jpg" for number in range(100)]
    return module.ranking(probes, pd.Series(files, index=files), MEASURE, confidence)


def test_images_that_are_alike_tell_less() -> None:
    probes = {"a": probe(0), "b": probe(8)}
    files = [f"{number}.jpg" for number in range(100)]
    found = module.ranking(probes, pd.Series([str(number // 8) for number in range(100)], index=files), MEASURE, 0.95)
    assert ranking(probes, 0.95)["apart"].tolist() == ["", "true"]
    assert found["apart"].tolist() == ["", "false"]
    # All errors are in one group of eight.
    assert found.loc[1, "low"] < ranking(probes, 0.95).loc[1, "low"] - 0.05


def test_the_ranking_is_by_accuracy_then_log_loss_then_name() -> None:
    found = ranking({"d": probe(9), "c": probe(3, 0.7), "b": probe(3, 0.7), "a": probe(3, 0.6)}, 0.95)
    assert tuple(found) == COLUMNS
    assert found["backbone"].tolist() == ["a", "b", "c", "d"]
    assert found["rank"].tolist() == [1, 2, 3, 4]
    assert found["accuracy"].tolist() == [0.97, 0.97, 0.97, 0.91]
    assert found["logme"].tolist() == [-0.6, -0.7, -0.7, -0.5]


def test_intervals_are_wilsons() -> None:
    found = ranking({"a": probe(10)}, 0.95).iloc[0]
    # Wilson's interval of 90 of 100 (Brown, Cai and DasGupta 2001).
    assert (found["low"], found["high"]) == (pytest.approx(0.8256, abs=1e-4), pytest.approx(0.9448, abs=1e-4))


def test_each_is_tested_against_the_first_with_holms_correction() -> None:
    found = ranking({"a": probe(0), "b": probe(1), "c": probe(20), "d": probe(7)}, 0.95).set_index("backbone")
    # So many wrong alone, of as many that differ: 2 / 2^7 and 1, times how many are not smaller.
    assert found.loc["d", "p_holm"] == pytest.approx(2 * 2 / 2**7)
    assert found.loc["c", "p_holm"] == pytest.approx(3 * 2 / 2**20)
    assert found.loc["b", "p_holm"] == 1
    assert found["apart"].to_dict() == {"a": "", "b": "false", "d": "true", "c": "true"}
    assert pd.isna(found.loc["a", "p_holm"])
    assert ranking({"a": probe(0), "d": probe(7)}, 0.99)["apart"].tolist() == ["", "false"]


def test_a_backbone_without_features_stands_at_the_end_without_a_rank() -> None:
    found = ranking({"scratch": probe(0, images=0, weights="none"), "a": probe(4)}, 0.95)
    assert found["backbone"].tolist() == ["a", "scratch"]
    assert found["rank"].isna().tolist() == [False, True]
    assert found.iloc[1]["weights"] == "none"
    assert found.iloc[1][["accuracy", "low", "high", "log_loss", "logme", "p_holm"]].isna().all()
    alone = ranking({"scratch": probe(0, images=0)}, 0.95)
    assert (len(alone), alone["rank"].isna().all()) == (1, True)


def test_the_best_are_so_many_and_those_without_a_rank() -> None:
    found = ranking({"scratch": probe(0, images=0), "c": probe(9), "b": probe(4), "a": probe(6)}, 0.95)
    assert best(found, 1) == ["b", "scratch"]
    assert best(found, 2) == ["b", "a", "scratch"]
    assert best(found, 4) == ["b", "a", "c", "scratch"]


def test_contenders_are_those_that_are_not_shown_to_be_worse_and_those_without_a_rank() -> None:
    probes = {"scratch": probe(0, images=0), "a": probe(0), "b": probe(1), "c": probe(20), "d": probe(7)}
    assert contenders(ranking(probes, 0.95)) == ["a", "b", "scratch"]
    # The surer one wants to be, the more remain.
    assert contenders(ranking(probes, 0.99)) == ["a", "b", "d", "scratch"]
    assert contenders(ranking({"scratch": probe(0, images=0)}, 0.95)) == ["scratch"]


def test_probes_of_other_images_are_not_ranked() -> None:
    with pytest.raises(DataError, match=r"probe of 'b' predicts other images than that of 'a'; .*'dvc repro rank'"):
        ranking({"a": probe(4, images=90), "b": probe(0)}, 0.95)


def test_lines_for_a_terminal_are_equally_wide_and_show_a_dash_for_nothing() -> None:
    table = ranking({"scratch": probe(0, images=0, weights="none"), "a": probe(4), "b": probe(40)}, 0.95)
    found = lines(table, MEASURE)
    words = [re.sub(" +", " ", line.strip()) for line in found]
    assert words == [
        "rank backbone accuracy interval log loss LogME worse than the first images weights",
        "1 a 96.0% 90.2% to 98.4% 0.500 -0.500 - 100 imagenet",
        "2 b 60.0% 50.2% to 69.1% 0.500 -0.500 yes 100 imagenet",
        "- scratch - - - - - 0 none",
    ]
    assert len({len(line) for line in found}) == 1


def test_by_another_measure_its_value_and_its_interval_stand_together_under_its_name() -> None:
    probes = {"scratch": probe(0, images=0, weights="none")}
    for name, wrong in (("a", 4), ("b", 40)):
        certain = probe(wrong)
        known = {f"p:{label}": (certain.predictions["predicted"] == label) * 1.0 for label in ("cat", "dog", "fox")}
        probes[name] = Probe(certain.numbers, certain.predictions.assign(**known))
    files = [f"{number}.jpg" for number in range(100)]
    measure = Measure("cost", {"cat": {"fox": 5.0}})
    table = module.ranking(probes, pd.Series(files, index=files), measure, 0.95)
    assert list(table)[2:6] == ["accuracy", "cost", "low", "high"]
    # Half of the wrong ones are cats.
    assert table["cost"].tolist()[:2] == pytest.approx([0.12, 1.2])
    assert (table["low"][:2] < table["cost"][:2]).all()
    assert (table["cost"][:2] < table["high"][:2]).all()
    first, second, *_ = (re.sub(" +", " ", line.strip()) for line in lines(table, measure))
    assert first == "rank backbone mean cost interval accuracy log loss LogME worse than the first images weights"
    shown = f"1 a 0.120 {table['low'][0]:.3f} to {table['high'][0]:.3f} 96.0% 0.500 -0.500 - 100 imagenet"
    assert second == shown
