"""Accuracies with fewer images are means over draws, with what twice the images would bring beside them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from stages.core.shares import Training
from stages.statistics.groups import Groups
from stages.statistics.shares import Shares, over_shares
from tests.support.learning import LAWS, SHARES, study

ALONE = Groups.single(300)


def trained(draws: int = 10, stopped: int = 0) -> Shares:
    """Return trainings on shares of 1,000 images, and on all of them, of which 300 test images of class 0 are right."""
    found = study(LAWS["power law"], 1000, 300, 0, draws)
    trainings = [
        Training(share, draw, images, 1 - found.right[draw, place].astype(np.int64))
        for place, (share, images) in enumerate(zip(SHARES, found.images, strict=True))
        for draw in range(draws)
    ]
    whole = (np.arange(300) >= round(300 * found.accuracy)).astype(np.int64)
    return Shares([*trainings, Training(1.0, 0, 1000, whole)], np.zeros(300, np.int64), stopped)


def test_each_share_has_the_mean_over_its_draws_and_its_interval() -> None:
    shares = trained()
    rows = over_shares(shares, ALONE, 0.95, 0)["shares"]
    assert [(row["share"], row["training_images"], row["draws"]) for row in rows] == [
        *((share, round(1000 * share), 10) for share in SHARES),
        (1.0, 1000, 1),
    ]
    first = [each for each in shares.trainings if each.share == SHARES[0]]
    assert rows[0]["accuracy"] == pytest.approx(np.mean([(each.predicted == 0).mean() for each in first]))
    assert all(row["low"] < row["accuracy"] < row["high"] for row in rows)


def test_what_twice_the_images_would_bring_is_read_back_as_it_was_written() -> None:
    found = over_shares(trained(), ALONE, 0.95, 0)
    curve = found["learning_curve"]
    assert (curve["unknown"], curve["confidence"], curve["twice"]["images"]) == (None, 0.8, 2000)
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(over_shares(trained(), ALONE, 0.95, 0)))


def test_of_linear_heads_drawn_once_it_is_said_that_nothing_can_be_foreseen() -> None:
    curve = over_shares(trained(draws=1), ALONE, 0.95, 0)["learning_curve"]
    assert (curve["unknown"], curve["twice"]) == ("few", None)


@pytest.mark.parametrize(("count", "unknown"), [(14, "groups"), (15, None)])
def test_of_few_groups_of_test_images_it_is_said_that_nothing_can_be_foreseen(count: int, unknown: str | None) -> None:
    curve = over_shares(trained(), Groups(np.arange(300) % count), 0.95, 0)["learning_curve"]
    assert curve["unknown"] == unknown
    assert (curve["twice"] is None) == (unknown is not None)


def test_of_networks_that_are_trained_once_on_each_share_nothing_is_foreseen() -> None:
    found = over_shares(trained(draws=1, stopped=68), ALONE, 0.95, 0)
    assert found["learning_curve"] is None
    assert {(row["draws"], row["validation_images"]) for row in found["shares"]} == {(1, 68)}


def test_without_shares_there_is_nothing() -> None:
    none = replace(trained(), trainings=[])
    assert over_shares(none, ALONE, 0.95, 0) == {"shares": [], "learning_curve": None}
    # Each share would have left a class without an image.
    alone = replace(trained(), trainings=trained().trainings[-1:])
    assert over_shares(alone, ALONE, 0.95, 0)["learning_curve"] is None
