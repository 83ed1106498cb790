"""Stage `rank`: rank the declared backbones before any is trained, from what probe says of their frozen features.

    dvc repro rank

Writes data/ranking.csv (stages/statistics/ranking.py has its columns) and who gets more than the linear head: for K
from 1 to as many backbones as there are data/rankings/best/K.json, for `rank.candidates: best/K`, and
data/rankings/contenders.json, all that a test does not tell from the first. The test part has no say in it. The linear
heads and LogME foretell the order after training roughly: the report says afterwards how well.
"""

import logging
from pathlib import Path

from stages.core import files, params
from stages.core.errors import DataError, run
from stages.statistics.ranking import Probe, best, contenders, lines, ranking

PROBES = Path("data/probes")
RANKING = Path("data/ranking.csv")
BEST = Path("data/rankings/best")
CONTENDERS = Path("data/rankings/contenders.json")

_log = logging.getLogger(__name__)


def read_probe(backbone: str) -> Probe:
    """Return what stage probe wrote about the images that train and choose."""
    columns = ("split", "file", "label", "predicted")
    try:
        table = files.read_csv(PROBES / backbone / "predictions.csv", text=columns, columns=columns)
        seen = table[table["split"] != "test"].drop(columns="split").reset_index(drop=True)
        return Probe(files.read_json(PROBES / backbone / "probe.json"), seen)
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
    files.write_json(CONTENDERS, {"finetune": contenders(table)})
    for line in lines(table):
        _log.info("%s", line)
    if random := table.loc[(table["weights"] == "random") & table["rank"].notna(), "backbone"].tolist():
        _log.warning("random weights in %s: their ranks say nothing of published ones", ", ".join(random))


if __name__ == "__main__":
    run(main)
