"""The report: one HTML page that needs no network."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from stages.results import drawing, figures, mistakes, panels
from stages.results.drawing import Figure
from stages.results.duels import matrix
from stages.results.explanations import Explanation
from stages.results.findings import misleading
from stages.results.language import Language
from stages.results.notes import notes
from stages.results.pages import render
from stages.results.provenance import Provenance, words
from stages.results.runs import Run, counts, ranked, ranked_over_folds, shares
from stages.results.scene import Scene
from stages.results.thumbnails import data_uris
from stages.results.transfer import Transfer
from stages.results.verdict import Evidence, decide
from stages.results.wording import sentence

# From here on a grid of all classes is too large to read, and the most frequent confusions are listed instead.
_LARGEST_GRID = 20
_LONGEST_LIST = 15
# Each takes some 4 kB.
_MOST_PICTURED = 500
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Material:
    """What the page is made of.

    `explanations` has those of each backbone; `raw` is the folder of the accepted pictures, `paths` says where each lay
    in the source; `splits` has columns label and split; `examples` is how many mistakes of each backbone are shown.
    """

    evidence: Evidence
    transfer: Transfer | None
    provenance: Provenance
    explanations: Mapping[str, Explanation]
    raw: Path
    paths: Mapping[str, str]
    splits: pd.DataFrame
    examples: int


@dataclass(frozen=True)
class Section:
    """A part of the page: where a link leads, what it is called, and what it is made by."""

    anchor: str
    heading: str
    template: str


def page(material: Material, language: Language) -> str:
    """Return comparison.html."""
    evidence = material.evidence
    ranking, by_folds = ranked(list(evidence.runs)), ranked_over_folds(list(evidence.runs))
    verdict = decide(evidence)
    sheets = [(run, mistakes.of_backbone(run, material.paths, material.examples)) for run in ranking]
    by_all = mistakes.of_all(ranking, material.paths, material.examples)
    mapped = _mapped(ranking[0], material.explanations[ranking[0].backbone])
    shown = {mistake.file for sheet in (by_all, *(sheet for _, sheet in sheets)) for mistake in sheet.shown}
    thumbnails = _thumbnails(material.raw, shown | _pictured(mapped))
    scene = Scene(ranking, verdict.chosen.backbone if verdict.chosen else None, language)
    drawn = _draw(scene, by_folds, mapped, thumbnails)
    scripts = [Markup(drawing.script()), Markup(render("comparison.js.j2"))]  # noqa: S704 (ours)
    return render(
        "comparison.html.j2",
        language,
        sections=_sections(ranking, by_folds, material.transfer, language),
        verdict=verdict,
        sentence=sentence(verdict, evidence, language),
        notes=notes(verdict, evidence, language),
        findings=misleading(evidence.audit, language),
        ranking=ranking,
        by_folds=by_folds,
        places={run.backbone: place for place, run in enumerate(ranking, start=1)},
        figures=drawn,
        matrix=matrix([run.backbone for run in ranking], evidence.duels, language) if len(ranking) > 1 else [],
        duels=[evidence.duels.between(one.backbone, other.backbone) for one, other in combinations(ranking, 2)],
        transfer=material.transfer,
        provenance=words(material.provenance, ranking, language),
        metrics=_metrics(language),
        repeated=ranking[0].metrics["repeats"]["count"] > 1,
        machines=_machines(ranking),
        mapped=ranking[0],
        shares=_shares(ranking),
        classes=ranking[0].classes,
        grids=[(run, _grid(run)) for run in ranking] if len(ranking[0].classes) <= _LARGEST_GRID else [],
        confusions=[(run, _most_confused(run)) for run in ranking],
        mistakes=sheets,
        wrong_by_all=by_all,
        thumbnails=thumbnails,
        looks=[(run, material.explanations[run.backbone].examples) for run in ranking],
        pictures=_pictures(material.splits, ranking[0].classes),
        audit=evidence.audit,
        specifications=_specifications(drawn, language),
        scripts=scripts,
        digests=[_digest(script) for script in scripts],
    )


@dataclass(frozen=True)
class Drawn:
    """The figures of the page: one, several, or those of each backbone."""

    accuracy: Figure
    folds: Figure | None
    costs: list[Figure]
    training_pictures: Figure | None
    curves: dict[str, list[Figure]]
    reliability: dict[str, Figure]
    embedding: Figure | None

    def all(self) -> Iterator[Figure]:
        """Yield every figure."""
        single = (self.accuracy, self.folds, self.training_pictures, self.embedding)
        yield from filter(None, single)
        yield from self.costs
        yield from self.reliability.values()
        for pair in self.curves.values():
            yield from pair


def _draw(scene: Scene, by_folds: list[Run], mapped: pd.DataFrame, thumbnails: Mapping[str, str]) -> Drawn:
    ranking = scene.ranking
    best, top = ranking[0], panels.top_of_losses(ranking)
    return Drawn(
        figures.accuracy(scene, _largest_class(best)),
        figures.folds(scene, by_folds) if by_folds else None,
        [figures.cost(scene, name, title, costs) for name, title, costs in _costs(scene)],
        figures.training_pictures(scene) if best.metrics["shares"] else None,
        {
            run.backbone: [panels.curves(scene, run, "accuracy", 1.0), panels.curves(scene, run, "loss", top)]
            for run in ranking
        },
        {run.backbone: panels.reliability(scene, run) for run in ranking},
        panels.embedding(scene, best, mapped, thumbnails) if len(mapped) else None,
    )


def _metrics(language: Language) -> list[tuple[str, str]]:
    """Return the metrics that have a bootstrap interval, and what they are called."""
    return [
        ("accuracy", language.gettext("accuracy")),
        ("balanced_accuracy", language.gettext("balanced accuracy")),
        ("macro_f1", "macro F1"),
        ("log_loss", "log loss"),
        ("ece", "ECE"),
    ]


def _machines(ranking: list[Run]) -> list[dict[str, Any]]:
    """Return on what costs were measured, and of which backbones."""
    keys = ("processor", "threads", "engine", "precision")
    found: dict[tuple[Any, ...], list[str]] = {}
    for run in ranking:
        found.setdefault(tuple(run.benchmark[key] for key in keys), []).append(run.backbone)
    return [dict(zip(keys, values, strict=True)) | {"backbones": names} for values, names in found.items()]


def _costs(scene: Scene) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield the costs that accuracy is drawn against: name, title, and those of the backbones that were measured."""
    titles = {
        "latency": ("latency_ms_median", 1.0, scene.say("latency of one picture, ms")),
        "size": ("size_mb", 1.0, scene.say("size on disk, MB")),
        "flops": ("flops", 1e-9, scene.say("operations for one picture, GFLOPs")),
    }
    for name, (key, unit, title) in titles.items():
        measured = {run.backbone: run.benchmark[key] for run in scene.ranking}
        yield name, title, {backbone: unit * value for backbone, value in measured.items() if value}


def _sections(ranking: list[Run], by_folds: list[Run], transfer: Transfer | None, language: Language) -> list[Section]:
    """Return the parts of the page, without those for which there is nothing."""
    folds = by_folds[0].folds["count"] if by_folds else 0
    parts = [
        ("ranking.html.j2", language.say("Ranking"), True),
        ("duels.html.j2", language.say("Who beats whom"), len(ranking) > 1),
        ("folds.html.j2", language.say("Over %(count)s folds", count=folds), bool(by_folds)),
        ("costs.html.j2", language.say("What it costs"), True),
        ("transfer.html.j2", language.say("What transfer learning bought"), transfer is not None),
        ("curves.html.j2", language.say("Learning curves"), True),
        ("confusion.html.j2", language.say("Which classes are confused"), True),
        ("recall.html.j2", language.say("Recall of each class"), True),
        ("calibration.html.j2", language.say("How far confidence can be trusted"), True),
        ("mistakes.html.j2", language.say("What is wrong"), True),
        ("looks.html.j2", language.say("Where the networks look"), True),
        ("embedding.html.j2", language.say("Which pictures look alike"), True),
        ("data.html.j2", language.say("Pictures"), True),
        ("provenance.html.j2", language.say("Where the numbers come from"), True),
    ]
    return [
        Section(template.removesuffix(".html.j2"), str(heading), template)
        for template, heading, wanted in parts
        if wanted
    ]


def _mapped(run: Run, explanation: Explanation) -> pd.DataFrame:
    """Return the test pictures that have a place on the map, with what was predicted."""
    return explanation.places[["file", "x", "y"]].merge(run.tested, on="file", validate="one_to_one")


def _pictured(mapped: pd.DataFrame) -> set[str]:
    """Return the points of the map that show their picture: the wrong ones first, as many as the page has room for."""
    right = mapped["label"] == mapped["predicted"]
    return set(mapped["file"].iloc[right.to_numpy().argsort(kind="stable")][:_MOST_PICTURED])


def _thumbnails(raw: Path, names: set[str]) -> dict[str, str]:
    """Return small copies of accepted pictures by their file."""
    found = data_uris((raw / name for name in names), "thumbnails")
    return {str(path.relative_to(raw)): address for path, address in found.items()}


def _specifications(drawn: Drawn, language: Language) -> Markup:
    """Return what the page's script draws from, as JSON in which no text can end the element that holds it."""
    value = {
        "config": drawing.config(language),
        "specifications": {figure.name: figure.specification for figure in drawn.all()},
    }
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 (JSON without any <)


def _digest(script: str) -> str:
    """Return what the page's policy allows a script by: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _shares(ranking: list[Run]) -> dict[float, int]:
    """Return the shares of the training pictures that were trained on, ascending, and how many pictures they are."""
    found = {share["share"]: share["training_pictures"] for run in ranking for share in run.metrics["shares"]}
    return dict(sorted(found.items()))


def _largest_class(run: Run) -> float:
    """Return the accuracy of always answering the class with the most test pictures."""
    supports = [row["support"] for row in run.metrics["per_class"].values()]
    return float(max(supports) / sum(supports))


def _grid(run: Run) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """Return the confusion row by row: the actual class, then predicted class, pictures and share of the row."""
    found = counts(run)
    cells = zip(found.tolist(), shares(found).tolist(), strict=True)
    return [
        (name, list(zip(run.classes, pictures, portion, strict=True)))
        for name, (pictures, portion) in zip(run.classes, cells, strict=True)
    ]


def _most_confused(run: Run) -> list[tuple[str, str, int, float]]:
    """Return the most frequent confusions: actual class, predicted class, pictures, share of the actual class."""
    found = counts(run)
    portion = shares(found)
    wrong = found * (1 - np.eye(len(found), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LONGEST_LIST]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        (run.classes[row], run.classes[column], int(wrong[row, column]), float(portion[row, column]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if wrong[row, column]
    ]


def _pictures(splits: pd.DataFrame, classes: list[str]) -> dict[str, list[int]]:
    """Return the number of pictures of each class in each split."""
    table = pd.crosstab(splits["label"], splits["split"]).reindex(index=classes, columns=_SPLITS, fill_value=0)
    return {name: [int(number) for number in row] for name, row in zip(classes, table.to_numpy(), strict=True)}
