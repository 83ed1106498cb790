"""Presets: what the parameter `preset` leaves of what params.yaml and the backbones' lines say.

`quick` is for a first run on new images: linear heads only, each solved once, and less of what is measured, drawn and
written beside the comparison, never more than is asked for. Images, splits, candidates and tests are those of `full`,
so that its verdict holds for what it compares. DVC reads `rank.candidates` and `export.backbones` itself: no preset can
change them.
"""

from collections.abc import Mapping
from typing import Any

FULL, QUICK = "full", "quick"
_Values = Mapping[str, Any]

# Of whole sections, by preset: `stages.core.params.read` applies it.
SECTIONS: Mapping[str, _Values] = {
    FULL: {},
    QUICK: {
        "tune": {"trials": 0},
        "explain": {"examples": 1, "map_images": 500},
        "benchmark": {"repeats": 10},
        "export": {"formats": ["keras", "openvino"]},
    },
}
# Of section `finetune` and of each backbone's line: `stages.core.settings.backbones.resolve` applies it.
BACKBONES: Mapping[str, _Values] = {
    FULL: {},
    QUICK: {
        "head": {"units": []},
        "unfreeze": {"blocks": 0},
        "training_shares": [0.1, 0.25, 0.5],
        "training_draws": 3,
    },
}
# The same of a network that is trained from scratch: it has dense layers of its own, is nothing without its training,
# and would be trained anew on each fraction of the images.
FROM_SCRATCH: Mapping[str, _Values] = {
    FULL: {},
    QUICK: {"unfreeze": {"repeats": 1}, "training_shares": []},
}


def at_most(values: _Values, own: object) -> dict[str, Any]:
    """Return what a preset's `values` make of one's `own` at the same keys: less of it, or as much, but never more."""
    found = own if isinstance(own, Mapping) else {}
    return {key: _less(value, found[key]) if key in found else value for key, value in values.items()}


def _less(value: Any, own: Any) -> Any:
    """Return the smaller of two numbers; of two lists what both have, or else as many of the first of one's own."""
    if isinstance(value, Mapping):
        return at_most(value, own)
    if isinstance(value, list) and isinstance(own, list | tuple):
        return [each for each in own if each in value] or list(own[: len(value)])
    # "all" is a number of blocks, too.
    return min(value, own) if isinstance(value, int) and isinstance(own, int | float) else value
