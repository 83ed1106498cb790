"""DVC's experiments: other values of parameters, and a result that is kept beside the others under a name."""

import re
from collections.abc import Callable, Iterable, Sequence

from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, to_hydra_overrides
from hydra.errors import HydraException

from flows import commands, git
from flows.graph import FlowError
from flows.masking import mask
from flows.process import ProcessGroups

_SAVED = re.compile(r"Experiment has been saved as: (\S+)")


def require_free(name: str) -> None:
    """Raise FlowError when no experiment of the last commit can be given this `name`."""
    if not git.is_reference(name):
        raise FlowError(f"name '{name}' is none that git accepts; expected letters, digits, dots, dashes, underscores")
    if name in commands.ask("exp", "list", "--name-only").split():
        raise FlowError(f"name '{name}' is taken; choose another, or run `dvc exp remove {name}` before")


def override(overrides: Iterable[str]) -> None:
    """Set parameters as `dvc exp run -S` does: `finetune.head.dropout=0.3`, in params.yaml or in a file named before.

    It is done by the function behind that option, because no command of DVC's sets parameters and runs nothing.
    """
    for file, values in to_path_overrides(overrides).items():
        try:
            if swept := [value.input_line for value in to_hydra_overrides(values) if value.is_sweep_override()]:
                raise FlowError(mask(f"override {swept[0]} has several values; expected one; start one run for each"))
            apply_overrides(file, values)
        except (DvcException, HydraException, OSError) as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise FlowError(mask(f"overrides {' '.join(values)} do not fit {file}: {reason}")) from error


def save(name: str | None, stages: Sequence[str], groups: ProcessGroups, log: Callable[[str], None]) -> str:
    """Keep the working directory's results of `stages` as an experiment.

    Return its name, which DVC chooses where `name` is None.
    """
    named = ["--name", name] if name else []
    lines = commands.run(["exp", "save", *named, *stages], groups, log)
    return next(found[1] for line in lines if (found := _SAVED.search(line)))
