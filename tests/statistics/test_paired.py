"""Two sets of predictions are compared on the images of both, and the test agrees with published examples."""

import numpy as np
import pandas as pd
import pytest

from stages.statistics.paired import Alternative, Pairs, mcnemar, min_discordant_pairs, pair

BOTH_RIGHT, BOTH_WRONG = 40, 10


def pairs(only_first: int, only_second: int) -> Pairs:
    """Return pairs with this many discordant ones, and 50 others."""
    first = np.repeat([True, False, True, False], [only_first, only_second, BOTH_RIGHT, BOTH_WRONG])
    second = np.repeat([False, True, True, False], [only_first, only_second, BOTH_RIGHT, BOTH_WRONG])
    return Pairs(first, second)


def predictions(answers: dict[str, str], split: str = "test") -> pd.DataFrame:
    """Return a table with a row for each file, named after its label, and the class predicted for it."""
    rows = [(split, file, file.partition("/")[0], predicted) for file, predicted in answers.items()]
    return pd.DataFrame(rows, columns=["split", "file", "label", "predicted"])


# The test -----------------------------------------------------------------------------------------------


def test_two_sided_agrees_with_fay_2010() -> None:
    """Fay 2010, "Exact McNemar's test and matching confidence intervals", vignette of R's package exact2x2."""
    assert mcnemar(pairs(2, 9)) == pytest.approx(0.06543, abs=5e-6)


def test_two_sided_agrees_with_fagerland_lydersen_and_laake_2013() -> None:
    """Response before and after a therapy (Cavo et al. 2012): 6 and 16 of 161 differ. BMC Med. Res. Methodol. 13:91."""
    assert mcnemar(pairs(6, 16)) == pytest.approx(0.052479, abs=5e-7)


@pytest.mark.parametrize(("only_first", "only_second", "expected"), [(9, 2, 67 / 2048), (2, 9, 2036 / 2048)])
def test_one_sided_agrees_with_an_example_worked_by_hand(only_first: int, only_second: int, expected: float) -> None:
    # Of 2^11 = 2048 outcomes 1 + 11 + 55 = 67 have 9 heads or more, and all but 1 + 11 = 12 have 2 or more.
    assert mcnemar(pairs(only_first, only_second), "greater") == pytest.approx(expected)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize("each", [0, 4])
def test_as_many_for_either_side_is_no_evidence(each: int, alternative: Alternative) -> None:
    assert mcnemar(pairs(each, each), alternative) >= 0.5
    assert mcnemar(pairs(each, each)) == 1


def test_images_that_do_not_differ_change_nothing() -> None:
    found = pairs(9, 2)
    assert mcnemar(found) == mcnemar(Pairs(found.first[:11], found.second[:11]))


@pytest.mark.parametrize(
    ("significance", "alternative", "expected"),
    [
        (0.05, "greater", 5),
        (0.05, "two-sided", 6),
        (0.03125, "greater", 5),
        (0.01, "two-sided", 8),
        (0.9, "greater", 1),
    ],
)
def test_fewer_images_than_the_fewest_are_never_significant(
    significance: float, alternative: Alternative, expected: int
) -> None:
    assert min_discordant_pairs(significance, alternative) == expected
    assert mcnemar(pairs(expected, 0), alternative) <= significance
    assert mcnemar(pairs(expected - 1, 0), alternative) > significance


# Pairing ------------------------------------------------------------------------------------------------


def test_the_difference_is_that_of_the_accuracies() -> None:
    found = pairs(9, 2)
    assert (found.only_first, found.only_second, len(found)) == (9, 2, 61)
    assert found.difference == pytest.approx(found.first.mean() - found.second.mean())


def test_images_are_paired_by_file_in_the_order_of_the_first_table() -> None:
    first = predictions({"cat/1.jpg": "cat", "cat/2.jpg": "dog", "dog/3.jpg": "dog"})
    second = predictions({"dog/3.jpg": "cat", "cat/1.jpg": "cat", "cat/2.jpg": "cat"})
    found = pair(first, second)
    assert found.first.tolist() == [True, False, True]
    assert found.second.tolist() == [True, True, False]


def test_only_images_of_both_tables_are_paired() -> None:
    found = pair(predictions({"cat/1.jpg": "cat", "cat/2.jpg": "cat"}), predictions({"cat/2.jpg": "dog"}))
    assert (found.first.tolist(), found.second.tolist()) == ([True], [False])


def test_a_image_with_another_label_is_another_image() -> None:
    found = pair(
        predictions({"cat/1.jpg": "cat", "cat/2.jpg": "cat"}), predictions({"dog/1.jpg": "cat", "cat/2.jpg": "cat"})
    )
    assert len(found) == 1


def test_only_the_images_of_the_split_are_paired() -> None:
    one, other = predictions({"cat/1.jpg": "cat"}), predictions({"cat/1.jpg": "cat"}, "validation")
    assert len(pair(one, other)) == len(pair(other, other)) == 0
    assert len(pair(other, other, "validation")) == 1


def test_texts_that_look_like_other_values_stay_classes() -> None:
    found = pair(predictions({"NA/1.jpg": "NA", "1/2.jpg": "1.0"}), predictions({"NA/1.jpg": "nan", "1/2.jpg": "1"}))
    assert (found.first.tolist(), found.second.tolist()) == ([True, False], [False, True])
