"""Copies across the source's own split that leave the numbers as they are: what the report says of them."""

from stages.pages.language import Language, Text
from stages.report.verdict import Evidence, leaked


def copy_notes(evidence: Evidence, language: Language) -> list[Text]:
    """Return what was done with copies across the source's own split, where none is in its test split."""
    leaks = evidence.audit["leaks"]
    if not evidence.source_split or not leaks["images"] or leaked(evidence):
        return []
    return [
        language.say(
            "%(count)s images have copies on another side of the source's own split, none of them in its test split; "
            "each was moved to the split of its copies or dropped (data/leaks.csv), so the numbers stand.",
            count=language.number(leaks["images"]),
        )
    ]
