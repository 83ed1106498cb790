"""DVC experiments: overriding parameters, and saving a result under a name beside the others."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, to_hydra_overrides
from hydra.errors import HydraException

from flows import dvc, git
from flows.graph import FlowError
from flows.process import ProcessGroups
from flows.redaction import redact

_SAVED = re.compile(r"Experiment has been saved as: (\S+)")


def require_free(name: str) -> None:
    """Raise FlowError when `name` is invalid, or taken by an experiment of the last commit."""
    if not git.is_reference(name):
        raise FlowError(f"name '{name}' is not accepted by git; expected letters, digits, dots, dashes, underscores")
    if name in dvc.ask("exp", "list", "--name-only").split():
        raise FlowError(f"name '{name}' is taken; choose another, or run `dvc exp remove {name}` before")


def override(overrides: Iterable[str]) -> None:
    """Set parameters as `dvc exp run -S` does: `finetune.head.dropout=0.3`, in params.yaml or a file in front of it.

    It uses the function behind that option, because no DVC command sets parameters without running stages.
    """
    for file, values in to_path_overrides(overrides).items():
        try:
            if swept := [value.input_line for value in to_hydra_overrides(values) if value.is_sweep_override()]:
                raise FlowError(redact(f"override {swept[0]} has several values; expected one; start one run for each"))
            apply_overrides(file, values)
        except (DvcException, HydraException, OSError) as error:
            reason = _unknown_key(file, values) or " ".join(str(error.__cause__ or error).split())
            raise FlowError(redact(f"overrides {' '.join(values)} do not fit {file}: {reason}")) from error


def _unknown_key(file: str, values: Iterable[str]) -> str:
    """Return which of the overrides `values` names a key that `file` lacks, with the nearest; "" if none does.

    Hydra advises to add the key as a new one instead, which no stage would read.
    """
    path = Path(file)
    known = list(_keys(yaml.safe_load(path.read_text(encoding="utf-8")))) if path.is_file() else []
    named = [value.partition("=")[0] for value in values if "=" in value and not value.startswith("+")]
    unknown = [key for key in named if known and key not in known]
    if not unknown:
        return ""
    close = difflib.get_close_matches(unknown[0], known, n=1)
    return f"it has no key '{unknown[0]}'" + (f"; did you mean '{close[0]}'?" if close else "")


def _keys(values: object, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested mappings, sections included."""
    for key, value in values.items() if isinstance(values, Mapping) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")


def save(name: str | None, stages: Sequence[str], groups: ProcessGroups, log: Callable[[str], None]) -> str:
    """Save the working directory's results of `stages` as an experiment.

    Returns its name, which DVC chooses if `name` is None.
    """
    named = ["--name", name] if name else []
    lines = dvc.run(["exp", "save", *named, *stages], groups, log)
    return next(found[1] for line in lines if (found := _SAVED.search(line)))
