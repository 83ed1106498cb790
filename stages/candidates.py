"""Stage `candidates`: say of each declared backbone whether it gets more than the linear head.

Writes data/candidates/B.json, see stages/fates.py. The parameter `rank.candidates` is part of a path. Where it is `all`
this stage reads data/rankings/all.json, which stage check writes, and training waits for no other backbone; where it is
`contenders` or `best/3`, data/rankings/contenders.json or best/3.json, which stage rank writes.
"""

import logging
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from stages import fates, files, params
from stages.errors import DataError, run

RANKINGS = Path("data/rankings")
ALL, CONTENDERS = "all", "contenders"
_BEST = "best/"

_log = logging.getLogger(__name__)


def _known(value: object) -> object:
    best = isinstance(value, str) and re.fullmatch(rf"{_BEST}[1-9][0-9]*", value)
    if value not in (ALL, CONTENDERS) and not best:
        raise ValueError(f"{CONTENDERS}, {ALL}, or {_BEST} and a number of 1 or more, such as {_BEST}3")
    return value


class RankParams(params.Section):
    """Section `rank`: which backbones get more than the linear head."""

    candidates: Annotated[str, BeforeValidator(_known)]

    @property
    def most(self) -> int | None:
        """How many of the ranked backbones are trained further at most; None where that is no number."""
        found = self.candidates.removeprefix(_BEST)
        return int(found) if found.isdecimal() else None


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
    _log.info(
        "more than the linear head for %d of %d backbones%s", len(decided) - len(left), len(decided), _without(left)
    )


def _without(left: list[str]) -> str:
    return f", not {', '.join(left)}" if left else ""


if __name__ == "__main__":
    run(main)
