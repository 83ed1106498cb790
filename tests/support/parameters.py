"""The shipped parameters, with some of them changed."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.params import read

ROOT = Path(__file__).parents[2]
SHIPPED = read(ROOT / "params.yaml")
ABSENT = object()


def edited(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shipped parameters with the values at the dotted keys changed, or removed where ABSENT."""
    params = copy.deepcopy(SHIPPED)
    for key, value in changes.items():
        *path, last = key.split(".")
        place = params
        for part in path:
            place = place[part]
        if value is ABSENT:
            del place[last]
        else:
            place[last] = value
    return params
