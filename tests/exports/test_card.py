"""The model card says in a sentence which head was kept, and what trained it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from stages.core.dataset.prepared import SPLITS
from stages.core.measure import Measure
from stages.exports import card
from tests.support import artefacts

CLASSES = ("cold", "warm")
LINEAR = (
    "Its head is linear: multinomial logistic regression on the features of the frozen backbone, solved exactly for "
    "220 training and validation images. Its L2 penalty (C = 30) was chosen by cross-validation."
)
DENSE = (
    "Its head has dense layers of 64 units (gelu), 8 units (gelu) before the output layer, trained on the features "
    "of the frozen backbone for 220 training images (660 with their augmented views). Of 19 epochs, number 13 "
    "was the best on validation."
)
REFITTED = DENSE.replace("training images", "training and validation images").replace(
    "on validation.",
    "on validation; the head was then retrained for the same number of steps, on validation images as well.",
)
UNFROZEN = (
    "Its head is linear. With it the top of the backbone was trained, 9 of its 18 blocks, starting from logistic "
    "regression on the frozen features (C = 30), on 220 training images (660 with their augmented views). Of 19 "
    "epochs, number 13 was the best on validation."
)
WHOLE = (
    "All of the backbone was trained from random weights, together with a head that has a dense layer of 8 units "
    "(gelu) before the output layer, on 220 training images (660 with their augmented views). Of 19 epochs, "
    "number 13 was the best on validation."
)


COMPARED = {
    "accuracy": 0.9, "accuracy_of_selection": 0.87, "accuracy_of_selection_low": 0.8, "accuracy_of_selection_high": 0.92
}  # fmt: skip


BY_ACCURACY = {"name": "accuracy", "value": 1.0, "low": 0.3, "high": 1.0}
BY_COST = {
    "name": "cost", "value": 0.213, "low": 0.1, "high": 0.4,
    "matrix": {"cold": {"cold": 0.0, "warm": 12.5}, "warm": {"cold": 1.0, "warm": 0.0}},
}  # fmt: skip


def provenance(kept: str, **changes: Any) -> dict[str, Any]:
    """Return what finetune writes of a backbone with this head, with some of it changed."""
    weights = "none" if kept == "whole" else "imagenet"
    facts = artefacts.provenance("resnet50", CLASSES, 1000, weights, kept)
    facts["head"] |= {"strength": 30.0, "fitted_on": changes.pop("fitted_on", facts["head"]["fitted_on"])}
    facts |= {"train_images": 220, "train_views": 220 if kept == "linear" else 660}
    return facts | {"versions": {"numpy": "2.4.6", "keras": "3.15.1"}} | changes


def written(
    facts: dict[str, Any],
    layers: list[tuple[int, str]],
    rivals: int = 8,
    measure: Mapping[str, Any] = BY_ACCURACY,
    compared: Mapping[str, Any] = COMPARED,
    *,
    quick: bool = False,
) -> str:
    """Return the card of a classifier that was right on each of two test images."""
    names = pd.DataFrame({"actual": CLASSES, "predicted": CLASSES})
    scores = {"recall": 1.0, "precision": 1.0, "f1": 1.0, "support": 1}
    rates = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "log_loss_scaled", "ece_scaled")
    metrics: dict[str, Any] = dict.fromkeys(rates, 1.0)
    metrics["measure"] = measure
    metrics |= {"test_images": 2, "design_effect": 1.0, "confidence": 0.95, "per_class": dict.fromkeys(CLASSES, scores)}
    form = {"format": "keras", "size_mb": 1.5, "agreement": 1.0, "largest_difference": 0.0, "images": 2,
            "accuracy": 1.0, "accuracy_low": 0.3, "accuracy_high": 1.0}  # fmt: skip
    manifest = {"classes": CLASSES, "input_size": 224, "fit": "pad", "temperature": 1.2, "formats": {"keras": {}}}
    return card.card(
        card.Subject(
            name="winner", backbone="resnet50", best="resnet50", recommended=None, compared=compared, rivals=rivals,
            quick=quick, metrics=metrics, confusion=names,
            provenance=facts, layers=layers, counts=pd.DataFrame(1, index=CLASSES, columns=SPLITS),
            forms=pd.DataFrame([form]), manifest=manifest, licence=None,
            measure=Measure(measure["name"]),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "layers", "said"),
    [
        (provenance("linear"), [], LINEAR),
        (provenance("dense"), [(64, "gelu"), (8, "gelu")], DENSE),
        (provenance("dense", fitted_on=["train", "validation"]), [(64, "gelu"), (8, "gelu")], REFITTED),
        (provenance("unfrozen"), [], UNFROZEN),
        (
            provenance("unfrozen", top={"input": "image"}, best_epoch=0),
            [],
            UNFROZEN.replace(
                "the top of the backbone was trained, 9 of its 18 blocks", "all of the backbone was trained"
            ).replace("number 13 was the best on validation", "none was better on validation than the start"),
        ),
        (provenance("whole"), [(8, "gelu")], WHOLE),
        (
            provenance("whole"),
            [],
            WHOLE.replace("head that has a dense layer of 8 units (gelu) before the output layer", "linear head"),
        ),
    ],
    ids=["linear", "dense", "refitted", "unfrozen", "all unfrozen, no epoch better", "whole", "whole, linear"],
)
def test_the_card_says_which_head_was_kept_and_what_trained_it(facts, layers, said: str) -> None:
    assert f"\n\n{said}\n\nSeed 20; keras 3.15.1, numpy 2.4.6.\n\n## Evaluation" in written(facts, layers)


def test_the_card_says_that_its_own_test_images_selected_the_backbone_and_what_that_is_worth_on_new_ones() -> None:
    selected = (
        "9 backbones were compared on them to select this one: selecting in this way gives an accuracy of about 87.0 % "
        "on new images (80.0 % to 92.0 %)."
    )
    assert selected in written(provenance("linear"), [])
    assert "compared on them" not in written(provenance("linear"), [], rivals=0)
    assert "model selection" not in written(provenance("linear"), [])


def test_the_card_of_a_first_run_says_so() -> None:
    said = "It was a first run (`preset: quick`)"
    assert said in written(provenance("linear"), [], quick=True)
    assert said not in written(provenance("linear"), [])


def test_the_card_says_which_measure_chose_with_its_value_and_the_costs() -> None:
    compared = {"cost": 0.213, "cost_of_selection": 0.231, "cost_of_selection_low": 0.1, "cost_of_selection_high": 0.4}
    found = written(provenance("linear"), [], measure=BY_COST, compared=compared)
    assert "| `mean cost`, by which it was chosen | 0.213 (0.100 to 0.400) |" in found
    assert "selecting in this way gives a `mean cost` of about 0.231 on new images (0.100 to 0.400)." in found
    assert "| | `cold` | `warm` |\n|:--|--:|--:|\n| `cold` | 0 | 12.5 |\n| `warm` | 1 | 0 |\n" in found
    assert "It was the best backbone by `mean cost` in a comparison that recommends none" in found
    assert found.index("The cost, and the table of classes, are of its decisions") < found.index("| class | recall |")
    by_accuracy = written(provenance("linear"), [])
    assert "## Costs" not in by_accuracy
    assert "decisions" not in by_accuracy
