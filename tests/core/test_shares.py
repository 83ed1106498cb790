"""shares.csv holds the predictions of a hundred trainings in little space."""

from pathlib import Path

import numpy as np
import pytest

from stages.core import shares
from stages.core.errors import DataError
from stages.core.files import write_csv
from stages.core.predictions import read_predictions
from stages.core.shares import Training


def test_what_is_written_is_read_back_even_of_a_single_test_image(tmp_path: Path) -> None:
    for predicted in ([0, 12, 3], [7]):
        found = [Training(0.1, draw, 33, np.array(predicted) + draw) for draw in range(2)]
        write_csv(tmp_path / "shares.csv", shares.table(found))
        again = shares.trainings(read_predictions(tmp_path / "shares.csv"), len(predicted))
        assert [(each.share, each.draw, each.images, each.predicted.tolist()) for each in again] == [
            (each.share, each.draw, each.images, each.predicted.tolist()) for each in found
        ]


def test_no_trainings_are_a_table_without_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "shares.csv", shares.table([]))
    assert (tmp_path / "shares.csv").read_text() == "share,draw,training_images,predicted\n"
    assert shares.trainings(read_predictions(tmp_path / "shares.csv"), 5) == []


def test_predictions_of_other_test_images_are_an_error() -> None:
    table = shares.table([Training(0.1, 0, 33, np.array([0, 1]))])
    with pytest.raises(DataError, match=r"shares.csv with 2 predictions by a share of 0.1; expected one for each of 3"):
        shares.trainings(table, 3)


def test_a_hundred_trainings_take_a_few_bytes_for_each_test_image() -> None:
    found = shares.table(Training(0.1, draw, 33, np.zeros(1000, np.int64)) for draw in range(100))
    assert len(found.to_csv(index=False)) < 100 * (2 * 1000 + 20)
