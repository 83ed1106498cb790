"""Stage `rank`: rank the declared backbones before any is trained, by the probes of their frozen features.

    dvc repro rank

Writes data/ranking.csv (its columns are in stages/statistics/ranking.py) and the possible selections of candidates:
data/rankings/best/K.json for each number K of backbones, for `rank.candidates: best/K`, and
data/rankings/contenders.json, all that are statistically tied with the first. Test images are not used. Linear heads
and LogME predict the order after training only roughly: the report says afterwards how well.
"""

import logging
from pathlib import Path

from stages.core import files, params
from stages.core.errors import DataError, run
from stages.core.measure import Measure
from stages.core.predictions import COLUMNS, read_groups, read_predictions
from stages.core.settings.recipes import read_names
from stages.core.settings.report import MeasureParams
from stages.statistics.ranking import Probe, best, contenders, lines, ranking

PROBES = Path("data/probes")
SPLITS = Path("data/splits.csv")
RANKING = Path("data/ranking.csv")
BEST = Path("data/rankings/best")
CONTENDERS = Path("data/rankings/contenders.json")

_log = logging.getLogger(__name__)


def read_probe(backbone: str, measure: Measure) -> Probe:
    """Return the results of stage probe for training and validation images, as far as the measure needs them."""
    try:
        columns = None if measure.of_probabilities else COLUMNS
        table = read_predictions(PROBES / backbone / "predictions.csv", columns)
        seen = table[table["split"] != "test"].drop(columns="split").reset_index(drop=True)
        return Probe(files.read_json(PROBES / backbone / "probe.json"), seen)
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", f"the probe of '{backbone}'", f"run 'dvc repro probe@{backbone}'"
        ) from error


def main() -> None:
    """Rank all declared backbones."""
    backbones, confidence = read_names(), params.lookup(params.read(), "evaluate.confidence")
    measure = Measure.of(params.load_part(MeasureParams, "report"))
    probes = {backbone: read_probe(backbone, measure) for backbone in backbones}
    table = ranking(probes, read_groups(SPLITS), measure, confidence)
    files.write_csv(RANKING, table)
    with files.replacing_folder(BEST) as folder:
        for most in range(1, len(backbones) + 1):
            files.write_json(folder / f"{most}.json", {"finetune": best(table, most)})
    files.write_json(CONTENDERS, {"finetune": contenders(table)})
    for line in lines(table, measure):
        _log.info("%s", line)
    if random := table.loc[(table["weights"] == "random") & table["rank"].notna(), "backbone"].tolist():
        _log.warning("random weights in %s: their ranks mean nothing for published weights", ", ".join(random))


if __name__ == "__main__":
    run(main)
