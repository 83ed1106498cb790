"""Stage `candidates`: say of each declared backbone whether it is fine-tuned, `rank.candidates` being all or best/K.

Writes data/candidates/B.json, see stages/fates.py. The parameter is part of a path. Where it is `all` this stage reads
data/rankings/all.json, which stage check writes, and training waits for no other backbone; where it is `best/3`,
data/rankings/best/3.json, which stage rank writes.
"""

import logging
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from stages import fates, files, params
from stages.errors import DataError, run

RANKINGS = Path("data/rankings")
ALL = "all"
_BEST = "best/"

_log = logging.getLogger(__name__)


def _all_or_best(value: object) -> object:
    if value != ALL and not (isinstance(value, str) and re.fullmatch(rf"{_BEST}[1-9][0-9]*", value)):
        raise ValueError(f"{ALL}, or {_BEST} and a number of 1 or more, such as {_BEST}3")
    return value


class RankParams(params.Section):
    """Section `rank`: which backbones are fine-tuned."""

    candidates: Annotated[str, BeforeValidator(_all_or_best)]

    @property
    def most(self) -> int | None:
        """How many of the ranked backbones are fine-tuned at most; None for all."""
        return None if self.candidates == ALL else int(self.candidates.removeprefix(_BEST))


def main() -> None:
    """Write the fate of each declared backbone."""
    backbones, settings = params.declared_backbones(), params.load(RankParams, "rank")
    path = RANKINGS / f"{settings.candidates}.json"
    try:
        chosen = files.read_json(path)["finetune"]
    except FileNotFoundError as error:
        raise DataError(
            f"no {path}", f"what rank.candidates = {settings.candidates} names", "run 'dvc repro candidates'"
        ) from error
    decided = {backbone: chosen == ALL or backbone in chosen for backbone in backbones}
    fates.write(decided)
    left = [backbone for backbone, finetune in decided.items() if not finetune]
    _log.info("to be fine-tuned: %d of %d backbones%s", len(decided) - len(left), len(decided), _without(left))


def _without(left: list[str]) -> str:
    return f", not {', '.join(left)}" if left else ""


if __name__ == "__main__":
    run(main)
