"""How the measure that decides is named, and how its values and differences are written."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.core.measure import Measure
from stages.core.settings.report import ACCURACY, COST
from stages.pages.language import UNKNOWN, Language, Name, Text

# Decimals of a measure that is no share.
_DIGITS = 3


def display_name(measure: Measure, language: Language) -> Text:
    """Return its name for people."""
    if measure.label is not None:
        return language.say("recall of %(label)s", label=Name(measure.label))
    return {
        ACCURACY: language.say("accuracy"),
        "balanced_accuracy": language.say("balanced accuracy"),
        "macro_f1": language.say("macro F1"),
        "log_loss": language.say("log loss after temperature scaling"),
        COST: language.say("mean cost"),
    }[measure.name]


def better(measure: Measure, language: Language) -> Text:
    """Return "a higher accuracy", or what else a better value of it is called."""
    if measure.name == ACCURACY:
        return language.say("a higher accuracy")
    name = display_name(measure, language)
    if measure.sign > 0:
        return language.say("a higher %(measure)s", measure=name)
    return language.say("a lower %(measure)s", measure=name)


def value(measure: Measure, found: float | None, language: Language) -> str:
    """Return a value of it: 84.3 %, or 0.512."""
    return language.percent(found) if measure.share else language.number(found, _DIGITS)


def figure(measure: Measure, difference: float | None, language: Language) -> str:
    """Return a difference of two values without its unit: points of a share, or a number."""
    if difference is None:
        return UNKNOWN
    return language.points(difference) if measure.share else language.number(difference, _DIGITS)


def amount(measure: Measure, difference: float, language: Language) -> Text | str:
    """Return a difference of two values with its unit: 2.0 points, or 0.020."""
    found = figure(measure, difference, language)
    return language.say("%(points)s points", points=found) if measure.share else found


def coarse(measure: Measure, difference: float, language: Language) -> Text | str:
    """Return a large round difference with its unit: 20 points, or 0.2."""
    if measure.share:
        return language.say("%(points)s points", points=language.number(100 * difference))
    return language.figures(difference)


def of_measure(measure: Measure, found: Text | str, language: Language) -> Text | str:
    """Return a difference of no share, such as 0.020, with the name of what it is a difference of."""
    if measure.share:
        return found
    if measure.name == COST:
        return language.say("%(amount)s of mean cost per image", amount=found)
    return language.say("%(amount)s of %(measure)s", amount=found, measure=display_name(measure, language))


def on_images(measure: Measure, count: int, language: Language) -> Text:
    """Return how many test images its value comes from: 110 test images, or 12 test images of a class."""
    images = language.number(count)
    if measure.label is None:
        return language.say("%(images)s test images", images=images)
    return language.say("%(images)s test images of %(label)s", images=images, label=Name(measure.label))


@dataclass(frozen=True)
class Deciding:
    """The measure as templates use it."""

    measure: Measure
    language: Language

    @property
    def other(self) -> bool:
        """Whether it is another than the accuracy, which every table has."""
        return self.measure.name != ACCURACY

    @property
    def name(self) -> Text:
        """Its name."""
        return display_name(self.measure, self.language)

    @property
    def by_cost(self) -> bool:
        """Whether decisions are those of the lowest expected cost, not the most probable classes."""
        return self.measure.name == COST

    @property
    def by_f1(self) -> bool:
        """Whether it is macro F1, which tables then have once."""
        return self.measure.name == "macro_f1"

    @property
    def by_interval(self) -> bool:
        """Whether a difference is significant only if its interval excludes 0 too (`PairwiseComparisons`)."""
        return not self.measure.of_outcomes

    @property
    def in_points(self) -> bool:
        """Whether differences of it are points."""
        return self.measure.share

    def value(self, found: float | None) -> str:
        """Return a value of it."""
        return value(self.measure, found, self.language)

    def ends(self, interval: Sequence[float] | None) -> Text | str:
        """Return the ends of an interval of it."""
        if not interval:
            return UNKNOWN
        low, high = map(self.value, interval)
        return self.language.say("%(low)s to %(high)s", low=low, high=high)

    def on_images(self, count: int) -> Text:
        """Return how many test images its value comes from."""
        return on_images(self.measure, count, self.language)

    def figure(self, difference: float | None) -> str:
        """Return a difference of it without its unit."""
        return figure(self.measure, difference, self.language)

    def amount(self, difference: float) -> Text | str:
        """Return a difference of it with its unit."""
        return amount(self.measure, difference, self.language)
