"""Stage `rank`: rank the declared backbones before any is trained, from what probe says of their frozen features.

    dvc repro rank

Writes data/ranking.csv (stages/results/ranking.py has its columns) and, for K from 1 to as many backbones as there are,
data/rankings/best/K.json with those that `rank.candidates: best/K` fine-tunes. The test part has no say in it. A linear
probe on the features and LogME foretell the order after fine-tuning roughly: the report says afterwards how well.
"""

import logging
from pathlib import Path

from stages import files, params
from stages.errors import DataError, run
from stages.results.ranking import Probe, best, lines, ranking

PROBES = Path("data/probes")
RANKING = Path("data/ranking.csv")
BEST = Path("data/rankings/best")

_log = logging.getLogger(__name__)


def read_probe(backbone: str) -> Probe:
    """Return what stage probe wrote about the pictures that train and choose."""
    try:
        return Probe(
            files.read_json(PROBES / backbone / "ranking.json"),
            files.read_csv(PROBES / backbone / "ranking.csv", text=("file", "label", "predicted")),
        )
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", f"the probe of '{backbone}'", f"run 'dvc repro probe@{backbone}'"
        ) from error


def main() -> None:
    """Rank all declared backbones."""
    backbones, confidence = params.declared_backbones(), params.lookup(params.read(), "evaluate.confidence")
    table = ranking({backbone: read_probe(backbone) for backbone in backbones}, confidence)
    files.write_csv(RANKING, table)
    with files.replacing_folder(BEST) as folder:
        for most in range(1, len(backbones) + 1):
            files.write_json(folder / f"{most}.json", {"finetune": best(table, most)})
    for line in lines(table):
        _log.info("%s", line)
    if random := table.loc[(table["weights"] == "random") & table["rank"].notna(), "backbone"].tolist():
        _log.warning("random weights in %s: their ranks say nothing of published ones", ", ".join(random))


if __name__ == "__main__":
    run(main)
