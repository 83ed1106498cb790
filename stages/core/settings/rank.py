"""Section `rank` of params.yaml: which backbones get more than the linear head.

Read by stage candidates, and by stage check, which refuses more candidates than there are backbones. Stage rank, which
ranks all of them, does not read it.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator

from stages.core.params import Section

ALL, CONTENDERS = "all", "contenders"
_BEST = "best/"


def _known(value: object) -> object:
    best = isinstance(value, str) and re.fullmatch(rf"{_BEST}[1-9][0-9]*", value)
    if value not in (ALL, CONTENDERS) and not best:
        raise ValueError(f"{CONTENDERS}, {ALL}, or {_BEST} and a number of 1 or more, such as {_BEST}3")
    return value


class RankParams(Section):
    """Section `rank`: which backbones get more than the linear head."""

    candidates: Annotated[str, BeforeValidator(_known)]

    @property
    def most(self) -> int | None:
        """How many of the ranked backbones are trained further at most, for check; None without a fixed number."""
        found = self.candidates.removeprefix(_BEST)
        return int(found) if found.isdecimal() else None
