"""What a search may vary, and what of a backbone is its default."""

import pytest

from stages.core.errors import GroupedUserError
from stages.core.params import parse
from stages.core.settings.tune import Space, TuneParams, changed, searched

NOTHING = {
    "learning_rate": [], "optimizer": [], "batch_size": [], "units": [], "dropout": [], "l2": [],
    "label_smoothing": [], "views": [],
}  # fmt: skip


def space(**changes) -> Space:
    return parse(Space, NOTHING | changes, "tune.space")


def test_what_is_empty_is_not_searched(declare) -> None:
    assert searched(space(), declare("vgg16"), 2) == {}
    found = searched(
        space(units=[[8]], dropout=[0.0, 0.5]), declare("vgg16", head={"units": [4, 4], "dropout": 0.9}), 2
    )
    assert found == {"units": [4, 4], "dropout": 0.9}


def test_without_augmented_views_their_number_is_not_searched(declare) -> None:
    assert searched(space(views=[0, 1]), declare("vgg16"), 2) == {"views": 2}
    assert searched(space(views=[0, 1]), declare("vgg16"), 0) == {}


def test_a_backbone_without_a_dense_head_begins_with_the_first_of_those_to_search(declare) -> None:
    assert searched(space(units=[[16], [8, 4]]), declare("vgg16"), 0) == {"units": [16]}
    assert searched(space(units=[[16]]), declare("vgg16", head={"units": [3]}), 0) == {"units": [3]}


def test_values_take_the_place_of_a_backbones_own(declare) -> None:
    backbone = declare("vgg16", epochs=7)
    values = {
        "learning_rate": 0.25, "optimizer": "sgd", "batch_size": 3, "units": [5, 6], "dropout": 0.125, "l2": 0.5,
        "label_smoothing": 0.0625, "views": 1,
    }  # fmt: skip
    found = changed(backbone, values)
    assert (found.optimizer.learning_rate, found.optimizer.name, found.batch_size) == (0.25, "sgd", 3)
    assert (found.head.units, found.head.dropout, found.head.l2, found.label_smoothing) == ((5, 6), 0.125, 0.5, 0.0625)
    assert searched(space(**{key: [value] for key, value in values.items() if key in ("batch_size", "optimizer")}),
                    found, 0) == {"batch_size": 3, "optimizer": "sgd"}  # fmt: skip
    assert found.model_dump(exclude={"optimizer", "batch_size", "head", "label_smoothing"}) == backbone.model_dump(
        exclude={"optimizer", "batch_size", "head", "label_smoothing"}
    )
    assert changed(backbone, {}) == backbone


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": [0.1]}, "two rising numbers"),
        ({"learning_rate": [0.1, 0.01]}, "two rising numbers"),
        ({"learning_rate": [0.0, 0.1]}, "more than 0"),
        ({"dropout": [0.0, 1.0]}, "1"),
        ({"optimizer": ["adam", "lion"]}, "sgd"),
        ({"l2": [0.1, 0.1]}, "each choice once"),
        ({"units": [[0]]}, "1"),
        ({"units": [[]]}, "at least 1"),
        ({"views": [-1]}, "0"),
        ({"dropuot": [0.1]}, "dropout"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_with_its_key(changes: dict, said: str) -> None:
    with pytest.raises(GroupedUserError) as refused:
        space(**changes)
    (fault,) = refused.value.faults
    assert str(next(iter(changes))) in str(fault)
    assert said in str(fault)


def test_the_number_of_trials_has_limits() -> None:
    whole = {"trials": -1, "startup_trials": 1, "pruning": True, "space": NOTHING}
    with pytest.raises(GroupedUserError, match=r"tune\.trials"):
        parse(TuneParams, whole, "tune")
