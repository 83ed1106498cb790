"""Presets: what the parameter `preset` sets, whatever params.yaml and the backbones' lines say.

`quick` is for a first run on new images: linear heads only, each solved once, and less of what is measured, drawn and
written beside the comparison. Images, splits, candidates and tests are those of `full`, so that its verdict holds for
what it compares. DVC reads `rank.candidates` and `export.backbones` itself: no preset can change them.
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
