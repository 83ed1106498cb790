"""What is wrong with the pictures, as sentences, from the numbers of data/audit.json: the gravest first.

One list for the log, for the audit's page and, as far as the comparison reads differently for it, for
the report.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Suspected labels are worth a warning from this share of the pictures on; below, most of them are false alarms.
_MANY_SUSPECTS = 0.05
# The largest class has so many times the pictures of the smallest: accuracy then hardly notices the smallest.
_IMBALANCED = 10

Audit = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what, which classes (other people's text, kept apart), and what to do about it.

    `section` is the part of the audit's page that shows it; `misleads` says that numbers of the
    comparison mean something else because of it.
    """

    section: str
    what: str
    remedy: str
    names: tuple[str, ...] = ()
    misleads: bool = False

    def __str__(self) -> str:
        """Return all of it in one line, for the log."""
        names = f": {', '.join(self.names)}" if self.names else ""
        return f"{self.what}{names}; {self.remedy}"


def findings(audit: Audit) -> list[Finding]:
    """Return what is wrong according to `audit`, the gravest first."""
    looks: tuple[Callable[[Audit], Finding | None], ...] = (
        _conflicts, _lost_classes, _small_classes, _leaks, _doubtful_pairs, _suspects, _rejects, _imbalance, _copies,
    )  # fmt: skip
    return [found for look in looks if (found := look(audit))]


def _leaks(audit: Audit) -> Finding | None:
    if not audit["leaks"]["groups"]:
        return None
    return Finding(
        "leaks",
        f"{_pictures(audit['leaks']['pictures'])} with a copy on another side of the split that the source brought",
        "numbers on that split flatter; here no copy lies on two sides",
        misleads=True,
    )


def _conflicts(audit: Audit) -> Finding | None:
    if not audit["conflicts"]["groups"]:
        return None
    groups, pictures = audit["conflicts"]["groups"], audit["conflicts"]["pictures"]
    return Finding(
        "conflicts",
        f"{_number(groups, 'picture stands', 'pictures stand')} under two labels; all {pictures} files are left out",
        "decide which label is right and remove the other files",
    )


def _lost_classes(audit: Audit) -> Finding | None:
    names = tuple(label for label, count in sorted(audit["pictures"].items()) if not count)
    if not names:
        return None
    return Finding(
        "rejects",
        f"{_number(len(names), 'class has', 'classes have')} no usable picture left",
        "see why its files were left out",
        names,
        misleads=True,
    )


def _small_classes(audit: Audit) -> Finding | None:
    small = audit["small_classes"]
    if not small:
        return None
    return Finding(
        "classes",
        f"{_number(len(small), 'class has', 'classes have')} too few training pictures to be learnt",
        "add pictures, or leave the class out",
        tuple(f"{label} ({count})" for label, count in sorted(small.items(), key=lambda item: (item[1], item[0]))),
        misleads=True,
    )


def _doubtful_pairs(audit: Audit) -> Finding | None:
    groups = audit["near_copies"]["under_two_labels"]
    if not groups:
        return None
    return Finding(
        "near",
        f"{_number(groups, 'group', 'groups')} of near copies under two labels",
        "look at each, and leave the wrong picture out",
    )


def _suspects(audit: Audit) -> Finding | None:
    suspects = audit["suspects"]
    if not suspects["share"] or suspects["share"] < _MANY_SUSPECTS:
        return None
    weak = suspects["weights"] == "random"
    return Finding(
        "suspects",
        f"{_number(suspects['pictures'], 'label', 'labels')} ({100 * suspects['share']:.1f} %) that networks doubt",
        "with random weights they doubt without reason as well: a weak hint" if weak else "look at the first ones",
        misleads=not weak,
    )


def _rejects(audit: Audit) -> Finding | None:
    # Those under two labels are a finding of their own, and what the user excludes is none.
    rejected = audit["rejected"] - audit["conflicts"]["pictures"] - audit["reasons"].get("excluded", 0)
    if not rejected:
        return None
    return Finding("rejects", f"{_number(rejected, 'file', 'files')} left out", "see the reasons")


def _imbalance(audit: Audit) -> Finding | None:
    ratio = audit["imbalance"]
    if ratio is None or ratio < _IMBALANCED:
        return None
    return Finding(
        "classes",
        f"the largest class has {ratio:.0f} times the pictures of the smallest",
        "read the recall of each class, and try finetune.class_weight: balanced",
        misleads=True,
    )


def _copies(audit: Audit) -> Finding | None:
    exact, near = audit["exact_copies"]["groups"], audit["near_copies"]["groups"]
    if not exact + near:
        return None
    return Finding(
        "exact" if exact else "near",
        f"{_number(exact, 'group', 'groups')} of exact copies, {_number(near, 'group', 'groups')} of near copies",
        "each lies on one side of the split; they say less than so many different pictures would",
    )


def _pictures(count: int) -> str:
    return _number(count, "picture", "pictures")


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
