import pandas as pd
import pytest

from stages.explanation.examples import choose


def part(*rows: tuple[str, str, float]) -> pd.DataFrame:
    """Return predictions of images named by their place, from label, predicted and confidence."""
    table = pd.DataFrame(rows, columns=["label", "predicted", "confidence"])
    return table.assign(file=[f"{number:02}.jpg" for number in range(len(rows))])


def chosen(table: pd.DataFrame, count: int, *, right: bool) -> list[str]:
    found = choose(table, count)
    return found.loc[found["right"] == right, "file"].tolist()


def test_the_most_confident_right_and_wrong_ones_are_chosen() -> None:
    table = part(("a", "a", 0.7), ("a", "b", 0.6), ("a", "a", 0.9), ("a", "b", 0.8), ("a", "a", 0.8))
    assert chosen(table, 2, right=True) == ["02.jpg", "04.jpg"]
    assert chosen(table, 1, right=False) == ["03.jpg"]


def test_each_class_has_its_most_confident_before_any_has_its_second() -> None:
    table = part(("a", "a", 0.99), ("a", "a", 0.98), ("b", "b", 0.6), ("a", "a", 0.97), ("c", "c", 0.5))
    assert chosen(table, 3, right=True) == ["00.jpg", "02.jpg", "04.jpg"]
    assert chosen(table, 4, right=True) == ["00.jpg", "02.jpg", "04.jpg", "01.jpg"]


def test_errors_are_of_different_kinds_before_one_is_shown_twice() -> None:
    table = part(("a", "b", 0.9), ("a", "b", 0.8), ("a", "c", 0.5), ("b", "a", 0.4))
    assert chosen(table, 3, right=False) == ["00.jpg", "02.jpg", "03.jpg"]


def test_of_equally_sure_ones_the_name_decides_in_whatever_order_they_come() -> None:
    table = part(*[("a", "a", 1.0)] * 9)
    assert chosen(table, 3, right=True) == chosen(table[::-1], 3, right=True) == ["00.jpg", "01.jpg", "02.jpg"]


def test_the_places_in_the_table_are_kept() -> None:
    table = part(("a", "b", 0.6), ("a", "a", 0.7), ("a", "a", 0.9))
    assert choose(table, 9).index.tolist() == [2, 1, 0]


@pytest.mark.parametrize("predicted", ["a", "b"])
def test_where_all_are_right_or_all_wrong_there_are_none_of_the_other_kind(predicted: str) -> None:
    found = choose(part(*[("a", predicted, 0.5)] * 3), 2)
    assert found["right"].tolist() == [predicted == "a"] * 2


def test_none_can_be_asked_for() -> None:
    assert choose(part(("a", "a", 0.7)), 0).empty
