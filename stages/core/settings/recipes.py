"""The parameters of each stage of one backbone, in files of their own.

Stage check writes `data/recipes/B/STAGE.json` for each backbone B and each stage that runs once per backbone. Such a
stage reads that file and nothing else of params.yaml, so that DVC reruns it only when a parameter changes that has an
effect on it: what one backbone's line overrides leaves the others alone, and what has no effect (dropout without a
dense layer) is replaced by a fixed value.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from stages.core.errors import DataError
from stages.core.files import read_json, write_json
from stages.core.params import Common, Tuple, common, parse, part
from stages.core.settings.audit import ProbeParams
from stages.core.settings.backbones import Backbone, Network, resolve
from stages.core.settings.benchmark import BenchmarkParams
from stages.core.settings.explain import ExplainParams
from stages.core.settings.features import EngineParams
from stages.core.settings.preprocess import ViewParams
from stages.core.settings.report import COST, MeasureParams
from stages.core.settings.weights import FetchParams

RECIPES = Path("data/recipes")


class StageRecipe(Common):
    """The parameters of a stage of one backbone: seed, threads, and what a subclass adds."""

    stage: ClassVar[str]


class WeightsRecipe(StageRecipe):
    """The network, where its weights come from, and how these are fetched.

    Section `weights` has more: what `source` says is in the network, and `folder` has no effect on a file's content.
    `digest` is that of the file of weights, of the ONNX file, or of the folder of a preset of KerasHub, if they come
    from one on this machine.
    """

    stage = "weights"
    weights: FetchParams
    network: Network
    digest: str | None


class FeaturesRecipe(StageRecipe):
    """How the frozen network is run."""

    stage = "features"
    features: EngineParams


class ProbeRecipe(StageRecipe, ProbeParams):
    """The linear head."""

    stage = "probe"
    c: Tuple[float]
    class_weight: Literal["none", "balanced"]
    training_shares: Tuple[float]
    training_draws: int


class ViewsRecipe(StageRecipe, ViewParams):
    """The augmented views for dense heads, and how the network is run on them."""

    stage = "views"
    features: EngineParams


class UnfreezeRecipe(StageRecipe, Backbone, ViewParams):
    """Phase 2, and the augmented views that it trains on."""

    stage = "unfreeze"


class FinetuneRecipe(StageRecipe, Backbone):
    """The dense head, and the choice between heads."""

    stage = "finetune"
    deciding: MeasureParams


class ExplainRecipe(StageRecipe, ExplainParams):
    """How many images are explained."""

    stage = "explain"


class BenchmarkRecipe(StageRecipe, BenchmarkParams):
    """How costs are measured."""

    stage = "benchmark"


# Where no views are wanted, how they would be drawn has no effect.
_NO_VIEWS = ViewParams.model_validate(
    {
        "views": 0,
        "augmentation": {
            "rotation": 0, "flip_horizontal": False, "flip_vertical": False, "zoom": 0, "translation": 0,
            "contrast": 0, "fill": "constant",
        },
    }
)  # fmt: skip


def write_recipes(params: Mapping[str, Any], folder: Path = RECIPES, digests: Mapping[str, str] | None = None) -> None:
    """Write the names of the declared backbones, and the recipes of each, from checked `params`.

    `digests` has the checksum of the file of weights, or ONNX file, of each backbone that has one on this machine.
    """
    write_json(folder / "names.json", {"backbones": list(params["backbones"])})
    for name in params["backbones"]:
        for recipe in _recipes(name, params, (digests or {}).get(name)):
            write_json(folder / name / f"{recipe.stage}.json", recipe.model_dump(mode="json"))


def _recipes(name: str, params: Mapping[str, Any], digest: str | None) -> list[StageRecipe]:
    """Return the recipes of a backbone. A search may use every parameter of its head."""
    backbone, searched = resolve(name, params), params["tune"]["trials"] > 0
    shared = dict(common(params))
    features = parse(EngineParams, params["features"], "features")
    views = part(ViewParams, params, "preprocess")
    top, trained = backbone.unfreeze_recipe, backbone.with_unchecked_weights if searched else backbone.head_recipe
    return [
        WeightsRecipe(
            **shared,
            weights=part(FetchParams, params, "weights"),
            network=backbone.network,
            digest=digest,
        ),
        FeaturesRecipe(**shared, features=features),
        ProbeRecipe(
            **shared,
            **dict(part(ProbeParams, params, "audit")),
            c=backbone.linear.c,
            class_weight=backbone.class_weight,
            training_shares=backbone.training_shares,
            training_draws=backbone.training_draws,
        ),
        ViewsRecipe(**shared, **dict(views if backbone.head.units or searched else _NO_VIEWS), features=features),
        UnfreezeRecipe(**shared, **dict(top), **dict(views if top.unfreeze.blocks else _NO_VIEWS)),
        FinetuneRecipe(**shared, **dict(trained), deciding=_deciding(params)),
        ExplainRecipe(**shared, **params["explain"]),
        BenchmarkRecipe(**shared, **params["benchmark"]),
    ]


def _deciding(params: Mapping[str, Any]) -> MeasureParams:
    """Return the measure that decides, without costs where these have no effect on it."""
    found = part(MeasureParams, params, "report")
    return found if found.measure == COST else found.model_copy(update={"costs": {}})


def read_names(folder: Path = RECIPES) -> list[str]:
    """Return the names of the declared backbones, in their order."""
    names: list[str] = _read(folder / "names.json")["backbones"]
    return names


R = TypeVar("R", bound=StageRecipe)


def read_recipe(cls: type[R], name: str, folder: Path = RECIPES) -> R:
    """Return a recipe of the backbone `name`. Raise DataError when stage check has not written it."""
    return cls.model_validate(_read(folder / name / f"{cls.stage}.json"))


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"no {path}", "the recipes that stage check writes", "run 'dvc repro check'") from error
