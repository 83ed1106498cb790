"""What is wrong with the images, as sentences, from the numbers of data/audit.json: the most serious first.

One list for the log, for the audit's page and, where it changes how the comparison is to be read, for the report,
which may be in another language.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.pages.language import ENGLISH, Language, Text

# Doubtful labels are worth a warning from this fraction of the images on; below, most of them are false alarms.
_MANY_SUSPECTS = 0.05
# From this ratio of the largest class to the smallest on, accuracy hardly depends on the smallest.
_IMBALANCED = 10

# Odd images of one kind say something of an image up to this fraction of all images, above it of the data set.
_COMMON = 0.1

# Classes that a finding names; of more it gives the number.
_NAMED = 5

# What to run when the source has been mended.
_AGAIN = "dvc repro audit"

Audit = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One problem: what is wrong, which classes (other people's text, kept apart), and what to do about it.

    `section` is the section of the audit's page that shows it, empty where none does; `misleads` says that it changes
    the meaning of the comparison's numbers, `settled` that there is nothing to do. `command` is the line to paste into
    a terminal; where there is none, the page has one for params.yaml that leaves images out. `more` says how many
    classes there are beside those that it names.
    """

    section: str
    what: Text
    remedy: Text
    names: tuple[str, ...] = ()
    more: Text | None = None
    misleads: bool = False
    settled: bool = False
    command: str = ""

    def __str__(self) -> str:
        """Return all of it in one line, for the log."""
        names = f": {', '.join(self.names)}{f' {self.more}' if self.more else ''}" if self.names else ""
        return f"{self.what}{names}; {self.remedy}{self.command and f': {self.command}'}"


def findings(audit: Audit, language: Language = ENGLISH) -> list[Finding]:
    """Return what is wrong according to `audit`, the most serious first."""
    checks: tuple[Callable[[Audit, Language], Finding | None], ...] = (
        _conflicts, _doubtful_pairs, _lost_classes, _small_classes, _leaks, _suspects, _outliers, _few_suspects,
        _rejects, _imbalance, _common_outliers, _copies, _beside_images,
    )  # fmt: skip
    return [found for check in checks if (found := check(audit, language))]


def misleading(audit: Audit, language: Language = ENGLISH) -> list[Finding]:
    """Return what changes the meaning of the comparison's numbers."""
    return [finding for finding in findings(audit, language) if finding.misleads]


def _leaks(audit: Audit, language: Language) -> Finding | None:
    leaks = audit["leaks"]
    if not leaks["split_used"]:
        return None
    if not leaks["test"]:
        return Finding(
            "leaks",
            language.say(
                "%(count)s images have copies on another side of the source's own split, none of them in its test "
                "split",
                count=language.number(leaks["images"]),
            ),
            language.say("each copy was moved to the same split or dropped, so the numbers stand: nothing to do"),
            settled=True,
        )
    return Finding(
        "leaks",
        language.say(
            "%(count)s images are copies of one another, in the source's own test split and outside of it",
            count=language.number(leaks["test"]),
        ),
        language.say(
            "that test split is likely to hold others that were not found; leave out those whose action in "
            "data/leaks.csv is not kept"
        ),
        misleads=True,
    )


def _conflicts(audit: Audit, language: Language) -> Finding | None:
    if not audit["conflicts"]["groups"]:
        return None
    return Finding(
        "conflicts",
        language.say_plural(
            "%(count)s image has two labels; all %(files)s files are left out",
            "%(count)s images have two labels each; all %(files)s files are left out",
            audit["conflicts"]["groups"],
            files=language.number(audit["conflicts"]["images"]),
        ),
        language.say("decide which label is right and remove the other files"),
    )


def _first(names: tuple[str, ...], language: Language) -> tuple[tuple[str, ...], Text | None]:
    """Return the first names, and how many more there are."""
    left = len(names) - _NAMED
    return names[:_NAMED], language.say("and %(count)s more", count=language.number(left)) if left > 0 else None


def _lost_classes(audit: Audit, language: Language) -> Finding | None:
    names = tuple(label for label, count in sorted(audit["images"].items()) if not count)
    if not names:
        return None
    return Finding(
        "classes",
        language.say_plural(
            "%(count)s class has no usable image left", "%(count)s classes have no usable image left", len(names)
        ),
        language.say("see why its files were left out, mend them in the source, then run")
        if len(names) == 1
        else language.say("see why their files were left out, mend them in the source, then run"),
        *_first(names, language),
        misleads=True,
        command=_AGAIN,
    )


def _small_classes(audit: Audit, language: Language) -> Finding | None:
    small = audit["small_classes"]
    if not small:
        return None
    names = tuple(f"{label} ({count})" for label, count in sorted(small.items(), key=lambda item: (item[1], item[0])))
    return Finding(
        "classes",
        language.say_plural(
            "%(count)s class has too few training images to be learned reliably",
            "%(count)s classes have too few training images to be learned reliably",
            len(small),
        ),
        language.say("add images of it, or remove its folder from the source, then run")
        if len(small) == 1
        else language.say("add images of them, or remove their folders from the source, then run"),
        *_first(names, language),
        misleads=True,
        command=_AGAIN,
    )


def _doubtful_pairs(audit: Audit, language: Language) -> Finding | None:
    groups = audit["near_copies"]["under_two_labels"]
    if not groups:
        return None
    return Finding(
        "near",
        language.say_plural(
            "%(count)s group of near copies with two labels",
            "%(count)s groups of near copies with two labels",
            groups,
        ),
        language.say("check each, and leave the wrong image out"),
    )


def _suspects(audit: Audit, language: Language) -> Finding | None:
    suspects = audit["suspects"]
    if not suspects["share"] or suspects["share"] < _MANY_SUSPECTS:
        return None
    return _doubted(suspects, language, many=True)


def _few_suspects(audit: Audit, language: Language) -> Finding | None:
    suspects = audit["suspects"]
    if not suspects["share"] or suspects["share"] >= _MANY_SUSPECTS:
        return None
    return _doubted(suspects, language, many=False)


def _doubted(suspects: Mapping[str, Any], language: Language, *, many: bool) -> Finding:
    """Return the finding of doubtful labels; few of them are worth a look and mislead nobody."""
    return Finding(
        "suspects",
        language.say_plural(
            "%(count)s doubtful label (%(share)s)",
            "%(count)s doubtful labels (%(share)s)",
            suspects["images"],
            share=language.percent(suspects["share"]),
        ),
        _check(suspects, language),
        misleads=many,
        # There is nothing to leave out among test images, only labels to correct.
        command=_AGAIN if suspects["test"] == suspects["images"] else "",
    )


def _check(suspects: Mapping[str, Any], language: Language) -> Text:
    if suspects["test"] == suspects["images"]:
        return language.say("all are test images: correct the labels that are wrong in the source, then run")
    if suspects["test"]:
        return language.say("check the first ones, but leave no test image out because a backbone doubts it")
    return language.say("check the first ones")


def is_common(odd: int, images: int) -> bool:
    """Return whether so many images of `images` are odd in one way that this is how the data set is."""
    return odd > _COMMON * images


def _outliers(audit: Audit, language: Language) -> Finding | None:
    kinds = _odd_kinds(audit, language, common=False)
    if not kinds:
        return None
    return Finding(
        "outliers",
        language.say("odd images: %(kinds)s", kinds=kinds),
        language.say("look at the first ones, and leave out what is no example of its class"),
    )


def _common_outliers(audit: Audit, language: Language) -> Finding | None:
    kinds = _odd_kinds(audit, language, common=True)
    if not kinds:
        return None
    return Finding(
        "outliers",
        language.say(
            "many of the %(count)s images are odd in the same way: %(kinds)s",
            count=language.number(audit["accepted"]),
            kinds=kinds,
        ),
        language.say("look at some of them; if that is how these images are, there is nothing to do"),
        settled=True,
    )


def _odd_kinds(audit: Audit, language: Language, *, common: bool) -> str:
    """Return the kinds of odd images that are common, or those that are not, each with its number of images."""
    odd = audit["outliers"]
    kinds = {
        "dark": language.say_plural("%(count)s dark", "%(count)s dark", odd["dark"]),
        "light": language.say_plural("%(count)s light", "%(count)s light", odd["light"]),
        "blurry": language.say_plural("%(count)s blurred", "%(count)s blurred", odd["blurry"]),
        "low_information": language.say_plural(
            "%(count)s nearly empty", "%(count)s nearly empty", odd["low_information"]
        ),
        "odd_aspect_ratio": language.say_plural(
            "%(count)s of an odd shape", "%(count)s of an odd shape", odd["odd_aspect_ratio"]
        ),
    }
    chosen = [kind for kind in kinds if odd[kind] and is_common(odd[kind], audit["accepted"]) is common]
    return ", ".join(str(kinds[kind]) for kind in sorted(chosen, key=odd.__getitem__, reverse=True))


def _rejects(audit: Audit, language: Language) -> Finding | None:
    # Images with two labels are a finding of their own; what the user excludes is none.
    settled = audit["conflicts"]["images"] + audit["reasons"].get("excluded", 0)
    rejected = audit["rejected"] - settled
    if not rejected:
        return None
    return Finding(
        "rejects",
        language.say_plural("%(count)s file left out", "%(count)s files left out", rejected),
        language.say("see the reasons, mend what should count, and leave the rest out by name"),
    )


def _imbalance(audit: Audit, language: Language) -> Finding | None:
    ratio, balanced = audit["imbalance"], audit["balanced"]
    if ratio < _IMBALANCED:
        return None
    return Finding(
        "classes",
        language.say("the largest class has %(ratio)s times the images of the smallest", ratio=language.number(ratio)),
        language.say("read the recall of each class; classes weigh the same already: nothing to do")
        if balanced
        else language.say("read the recall of each class, and let classes weigh the same"),
        misleads=True,
        settled=balanced,
        command="" if balanced else "dvc exp run -S finetune.class_weight=balanced",
    )


def _copies(audit: Audit, language: Language) -> Finding | None:
    exact, near = audit["exact_copies"]["groups"], audit["near_copies"]["groups"]
    if not exact + near:
        return None
    return Finding(
        "exact" if exact else "near",
        language.say(
            "%(exact)s, %(near)s",
            exact=language.say_plural("%(count)s group of exact copies", "%(count)s groups of exact copies", exact),
            near=language.say_plural("%(count)s group of near copies", "%(count)s groups of near copies", near),
        ),
        language.say(
            "each is in one split, and carries less information than as many different images; but for those across "
            "the source's own test split there is nothing to do"
        )
        if audit["leaks"]["split_used"] and audit["leaks"]["test"]
        else language.say(
            "each is in one split, and carries less information than as many different images: nothing to do"
        ),
        settled=True,
    )


def _beside_images(audit: Audit, language: Language) -> Finding | None:
    count = audit["beside_images"]
    if not count:
        return None
    return Finding(
        "",
        language.say_plural("%(count)s file is no image", "%(count)s files are no images", count),
        language.say("texts and hidden files are left out, data/rejects.csv names them: nothing to do"),
        settled=True,
    )
