"""The comment of a fraction in params.yaml says the bounds that the check enforces."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from docs.parameters import entries
from stages.check import SECTIONS
from tests.contracts.closure import ROOT

MEANINGS = {entry.key: entry.meaning for entry in entries((ROOT / "params.yaml").read_text(encoding="utf-8"))}
# By the bounds of a fraction, which of them belong to it.
SAID = {
    (Ge(0), Le(1)): "0 to 1",
    (Ge(0), Lt(1)): "0 to below 1",
    (Gt(0), Le(1)): "above 0 to 1",
    (Gt(0), Lt(1)): "between 0 and 1",
}
RANGES = re.compile("|".join(SAID.values()))


def bounds(metadata: list[Any], annotation: Any) -> Iterator[Any]:
    """Yield the bounds of a field, and of the items of its lists."""
    yield from (one for one in metadata if isinstance(one, Ge | Gt | Le | Lt))
    for part in get_args(annotation):
        yield from bounds(list(getattr(part, "metadata", ())), part)


def fractions(model: type[BaseModel], key: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fractions(field.annotation, f"{key}.{name}")
        elif said := SAID.get(tuple(bounds(field.metadata, field.annotation))):
            yield f"{key}.{name}", said


FRACTIONS = dict(pair for section, model in SECTIONS.items() for pair in fractions(model, section))


def test_the_known_fractions_are_found() -> None:
    assert {"split.test", "tune.space.dropout", "finetune.head.dropout", "gate.max_fall"} <= FRACTIONS.keys()


@pytest.mark.parametrize("key", FRACTIONS)
def test_a_fraction_says_its_bounds(key: str) -> None:
    meaning = MEANINGS[key] if RANGES.search(MEANINGS[key]) else MEANINGS[key.rpartition(".")[0]]
    assert RANGES.findall(meaning)[:1] == [FRACTIONS[key]], meaning
