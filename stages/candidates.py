"""Stage `candidates`: select the declared backbones that get more than the linear head.

Writes data/candidates/B.json, see stages/core/selection.py. The parameter `rank.candidates` is part of a path. With
`all` this stage reads data/rankings/all.json, which stage check writes, so that training does not wait for other
backbones; with `contenders` or `best/3` it reads data/rankings/contenders.json or best/3.json, which stage rank writes.
"""

import logging
from pathlib import Path

from stages.core import files, params, selection
from stages.core.errors import DataError, run
from stages.core.settings.rank import ALL, RankParams
from stages.core.settings.recipes import read_names

RANKINGS = Path("data/rankings")

_log = logging.getLogger(__name__)


def main() -> None:
    """Write the selection of the declared backbones."""
    backbones, settings = read_names(), params.load(RankParams, "rank")
    path = RANKINGS / f"{settings.candidates}.json"
    try:
        chosen = files.read_json(path)["finetune"]
    except FileNotFoundError as error:
        raise DataError(
            f"no {path}", f"the file that rank.candidates = {settings.candidates} names", "run 'dvc repro candidates'"
        ) from error
    decided = {backbone: chosen == ALL or backbone in chosen for backbone in backbones}
    selection.write(decided)
    left = [backbone for backbone, finetune in decided.items() if not finetune]
    _log.info(
        "more than the linear head for %d of %d backbones%s", len(decided) - len(left), len(decided), _without(left)
    )


def _without(left: list[str]) -> str:
    return f", not {', '.join(left)}" if left else ""


if __name__ == "__main__":
    run(main)
