"""Where the numbers come from: images, split, seed, commit, libraries, and parameters that differ from the defaults.

The weights, and the versions of the libraries that trained, are in each backbone's own provenance (`Run.provenance`).
"""

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.dataset.prepared import SPLITS
from stages.core.measure import Measure
from stages.core.settings.report import ACCURACY
from stages.pages.language import Language, Name, Names, Text, Value
from stages.report.pairwise_comparison import signed
from stages.report.runs import Run

# A copy of params.yaml with its default values: an archive or a shallow clone has no git history to compare with.
DEFAULTS = Path(__file__).with_name("defaults.yaml")
# Files that the results depend on, beside the images, which have a digest of their own.
MADE_BY = ("stages", "params.yaml", "dvc.yaml", "uv.lock")
# Libraries that calculate the report.
LIBRARIES = ("numpy", "pandas", "scikit-learn", "scipy")
# Sections of params.yaml that no result depends on.
BESIDE = ("export", "gate")
# Characters of a value that are shown.
_LONGEST = 200
# Changed parameters that have a sentence of their own.
_MOST = 12


@dataclass(frozen=True)
class Commit:
    """The last commit before the run that changed `MADE_BY`, and the files of that which had uncommitted changes."""

    digest: str
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A parameter that differs from its default, each as YAML has it; None where there is no such key."""

    key: str
    value: str | None
    default: str | None


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from.

    `images` is a SHA-256 of the accepted images with their labels, `split` one of which file is in which split, see
    `digest`. `counts` says how many images each split has. `commit` is None outside of git. `versions` are those of
    Python and the libraries that calculated the report.
    """

    images: str
    split: str
    counts: dict[str, int]
    seed: int
    commit: Commit | None
    versions: dict[str, str]
    changes: list[Change]


def provenance(
    manifest: Iterable[pd.DataFrame],
    splits: Iterable[pd.DataFrame],
    audit: Mapping[str, Any],
    params: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> Provenance:
    """Return where the numbers of the project in the working directory come from.

    `manifest` and `splits` are chunks of the tables with at least label and sha256, file and split; `params` and
    `defaults` are params.yaml as it is and with its default values.
    """
    return Provenance(
        digest(manifest, "label", "sha256"),
        digest(splits, "file", "split"),
        {split: count for split, count in audit["splits"].items() if count},
        params["seed"],
        commit(),
        {"Python": platform.python_version()} | {library: version(library) for library in LIBRARIES},
        list(changes(params, defaults)),
    )


def digest(chunks: Iterable[pd.DataFrame], *columns: str) -> str:
    """Return the SHA-256 of a table's rows, whatever their order: each as a JSON list of `columns`, sorted, in lines.

    Of a manifest's label and sha256 it says which images there are under which labels, and changes with nothing else:
    neither with a path, nor with what a library reads out of an image.
    """
    rows = [
        json.dumps(row).encode() for chunk in chunks for row in zip(*(chunk[column] for column in columns), strict=True)
    ]
    return hashlib.sha256(b"\n".join(sorted(rows))).hexdigest()


def commit() -> Commit | None:
    """Return the last commit that changed what the results depend on; None where git does not know any.

    The commit that will hold the report is made after it. This one stays the same as long as nothing changes that a
    result may depend on, so that a later comparison has the same bytes; uncommitted changes are named beside it.
    """
    found = _git("log", "-1", "--format=%H")
    if not found:
        return None
    changed = _git("diff", "--name-only", "--relative", "-z", "HEAD") + _git(
        "ls-files", "--others", "--exclude-standard", "-z"
    )
    return Commit(found.strip(), tuple(sorted(filter(None, changed.split("\0")))))


def _git(*arguments: str) -> str:
    """Return what git says about `MADE_BY`, nothing where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments, "--", *MADE_BY],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def changes(params: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the parameters that differ from the defaults, in their order there, then those that are new."""
    now, default = (
        {key: value for key, value in values.items() if key not in BESIDE} | {"backbones": _lines(values["backbones"])}
        for values in (params, defaults)
    )
    yield from _changes(now, default, "")


def _lines(backbones: Mapping[str, Any]) -> dict[str, Any]:
    """Return the backbones' lines; an empty one changes nothing, however it is written."""
    return {name: line or {} for name, line in backbones.items()}


def _changes(now: Mapping[str, Any], default: Mapping[str, Any], place: str) -> Iterator[Change]:
    for key in (*default, *(key for key in now if key not in default)):
        both = key in now and key in default
        if both and isinstance(now[key], Mapping) and isinstance(default[key], Mapping):
            yield from _changes(now[key], default[key], f"{place}{key}.")
        elif not both or now[key] != default[key]:
            yield Change(
                f"{place}{key}", *(_shown(values[key]) if key in values else None for values in (now, default))
            )


def _shown(value: Any) -> str:
    """Return a value as params.yaml may have it, shortened; a URL without what may be secret in it."""
    text = _public(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _public(text: str) -> str:
    """Return `text`; a URL without user, password and query, which may be a signature."""
    if "://" not in text:
        return text
    return re.sub(r"[?#].*", "?…", re.sub(r"(?<=://)[^/@]*@", "…@", text), flags=re.DOTALL)


def sentences(found: Provenance, runs: Sequence[Run], language: Language) -> list[Text]:
    """Return where the numbers come from, in sentences; `runs` in the order in which they are to be named."""
    return [
        _images(found, language),
        language.say("Split: SHA-256 %(digest)s; seed %(seed)s.", digest=Name(found.split), seed=found.seed),
        _commit(found.commit, language),
        *_weights(runs, language),
        *_trained(runs, language),
        *_precision(runs, language),
        language.say("Calculated with %(versions)s.", versions=_listed(found.versions)),
        *_changed(found.changes, language),
    ]


def _images(found: Provenance, language: Language) -> Text:
    counts = {split: language.number(found.counts.get(split, 0)) for split in SPLITS}
    return language.say_plural(
        "%(count)s image: %(train)s training, %(validation)s validation, %(test)s test; SHA-256 %(digest)s.",
        "%(count)s images: %(train)s training, %(validation)s validation, %(test)s test; SHA-256 %(digest)s.",
        sum(found.counts.values()),
        digest=Name(found.images),
        **counts,
    )


def _commit(found: Commit | None, language: Language) -> Text:
    if found is None:
        return language.say("Commit: unknown, there is no git repository.")
    values: dict[str, Value] = {"digest": Name(found.digest), "made_by": Names(MADE_BY)}
    if not found.changed:
        return language.say(
            "Commit: %(digest)s, the last one before this run that changed anything in %(made_by)s; HEAD may be later.",
            **values,
        )
    return language.say(
        "Commit: %(digest)s, the last one before this run that changed anything in %(made_by)s; HEAD may be later. "
        "There were uncommitted changes in %(files)s.",
        files=Names(found.changed),
        **values,
    )


def _weights(runs: Sequence[Run], language: Language) -> list[Text]:
    return [_weights_of(run, language) for run in runs if run.provenance["weights"]["file"]]


def _weights_of(run: Run, language: Language) -> Text:
    known = run.provenance["weights"]
    names = {key: Name(known[key]) for key in ("file", "checksum")} | {"name": Name(run.backbone)}
    if licence := known.get("licence"):
        return language.say(
            "Weights of %(name)s: %(file)s, %(checksum)s, licence %(licence)s.", licence=Name(licence), **names
        )
    return language.say("Weights of %(name)s: %(file)s, %(checksum)s.", **names)


def _trained(runs: Sequence[Run], language: Language) -> list[Text]:
    """Return which versions trained the backbones, one sentence where they are the same for all."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(_listed(run.provenance["versions"]), []).append(run.backbone)
    if len(found) == 1:
        return [language.say("Trained with %(versions)s.", versions=next(iter(found)))]
    return [
        language.say("Trained with %(versions)s: %(names)s.", versions=versions, names=Names(tuple(names)))
        for versions, names in found.items()
    ]


def _precision(runs: Sequence[Run], language: Language) -> list[Text]:
    """Return how many predictions differ from those in float32, of backbones with features in a reduced precision."""
    reduced = [run for run in runs if run.precision["images"]]
    if not reduced:
        return []
    precisions = Names(tuple(dict.fromkeys(run.precision["precision"] for run in reduced)))
    if differing := [_differing(run, language) for run in reduced if run.precision["differing"]]:
        return [
            language.say(
                "Features were computed in %(precisions)s; in float32 predictions differ for %(images)s.",
                precisions=precisions,
                images=reduce(lambda one, two: language.say("%(first)s; %(second)s", first=one, second=two), differing),
            )
        ]
    return [
        language.say(
            "Features were computed in %(precisions)s; in float32 the predictions for all %(images)s test images are "
            "the same.",
            precisions=precisions,
            images=language.number(reduced[0].precision["images"]),
        )
    ]


def _differing(run: Run, language: Language) -> Text:
    """Return how many predictions of a backbone differ in float32, and by how much its accuracy does."""
    found = run.precision
    return language.say(
        "%(differing)s of %(images)s test images of %(name)s (accuracy %(points)s points)",
        differing=language.number(found["differing"]),
        images=language.number(found["images"]),
        name=Name(run.backbone),
        points=signed(-found["right"] / found["images"], Measure(ACCURACY), language),
    )


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{library} {number}" for library, number in versions.items())


def _changed(found: list[Change], language: Language) -> list[Text]:
    if not found:
        return [language.say("All parameters have their default values.")]
    there, gone = ([change for change in found if (change.value is None) is missing] for missing in (False, True))
    sentences = [_change(change, language) for change in there[:_MOST]]
    if more := len(there) - len(sentences):
        sentences.append(
            language.say_plural(
                "%(count)s more parameter differs from its default.",
                "%(count)s more parameters differ from their defaults.",
                more,
            )
        )
    if gone:
        names = Names(tuple(change.key for change in gone))
        sentences.append(language.say("Default parameters that are left out: %(names)s.", names=names))
    return sentences


def _change(change: Change, language: Language) -> Text:
    values = {"key": Name(change.key), "value": Name(change.value or "")}
    if change.default is None:
        return language.say("Parameter %(key)s: %(value)s, no default.", **values)
    return language.say("Parameter %(key)s: %(value)s, default %(default)s.", default=Name(change.default), **values)
