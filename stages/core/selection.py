"""The selection: which backbones get more than the linear head, as stage candidates decides.

Each has its own file, `data/candidates/B.json`, which holds nothing else, so that only backbones that enter or leave
the selection are rerun.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from stages.core.errors import DataError
from stages.core.files import read_json, replacing_folder, write_json

CANDIDATES = Path("data/candidates")


def write(selection: Mapping[str, bool]) -> None:
    """Write whether each backbone is fine-tuned; remove all other files."""
    with replacing_folder(CANDIDATES) as folder:
        for backbone, finetune in selection.items():
            write_json(folder / f"{backbone}.json", {"finetune": finetune})


def fine_tuned(backbones: Iterable[str]) -> list[str]:
    """Return those of `backbones` that are fine-tuned. Raise DataError when stage candidates has not run."""
    paths = {backbone: CANDIDATES / f"{backbone}.json" for backbone in backbones}
    if missing := [str(path) for path in paths.values() if not path.exists()]:
        raise DataError(f"no {', '.join(missing)}", "the selection of every backbone", "run 'dvc repro candidates'")
    return [backbone for backbone, path in paths.items() if read_json(path)["finetune"]]


def is_fine_tuned(backbone: str) -> bool:
    """Return whether one backbone is fine-tuned. Raise DataError when stage candidates has not run."""
    return bool(fine_tuned([backbone]))
