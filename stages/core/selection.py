"""Which backbones get more than the linear head, as stage candidates decides: `data/candidates/B.json` for each.

A file of its own for each, which holds nothing else: where a backbone's fate stays as it was, nothing of it runs again.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from stages.core.errors import DataError
from stages.core.files import read_json, replacing_folder, write_json

CANDIDATES = Path("data/candidates")


def write(fates: Mapping[str, bool]) -> None:
    """Write whether each backbone is fine-tuned; forget all others."""
    with replacing_folder(CANDIDATES) as folder:
        for backbone, finetune in fates.items():
            write_json(folder / f"{backbone}.json", {"finetune": finetune})


def fine_tuned(backbones: Iterable[str]) -> list[str]:
    """Return those of `backbones` that are fine-tuned. Raise DataError when that is not decided."""
    paths = {backbone: CANDIDATES / f"{backbone}.json" for backbone in backbones}
    if missing := [str(path) for path in paths.values() if not path.exists()]:
        raise DataError(f"no {', '.join(missing)}", "the fate of every backbone", "run 'dvc repro candidates'")
    return [backbone for backbone, path in paths.items() if read_json(path)["finetune"]]


def is_fine_tuned(backbone: str) -> bool:
    """Say whether one backbone is fine-tuned. Raise DataError when that is not decided."""
    return bool(fine_tuned([backbone]))
