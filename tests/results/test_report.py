"""The report says what the numbers allow, escapes every name, and needs no network."""

import re
from html.parser import HTMLParser

import pytest

from stages.results import pages, report
from stages.results.runs import Run
from tests.results import artefacts

TWO = ("cat", "dog")
DASH = "\N{EN DASH}"
NOTHING_WRONG = artefacts.audit()
EVIL = ("<script>alert(1)</script>", "\"quo'ted", "שלום", "👩‍🚀 猫", "x" * 200, "$x$", "a|b`c`\nd")


def run(
    backbone: str, right: int = 15, wrong: int = 5, weights: str = "imagenet", reason: str = "", folds: int = 0
) -> Run:
    """Return a backbone with `right` and `wrong` answers about cats and dogs."""
    actual = ["cat", "dog"] * ((right + wrong) // 2)
    predicted = [name if i < right else "cat" if name == "dog" else "dog" for i, name in enumerate(actual)]
    provenance = artefacts.provenance(backbone, TWO, 1000, weights)
    provenance["weights"]["reason"] = reason
    table = artefacts.answers(actual, predicted, TWO)
    return artefacts.run(backbone, table, TWO, count=folds, provenance=provenance)


def page(*runs: Run, classes: tuple[str, ...] = TWO, audit: dict[str, object] = NOTHING_WRONG) -> str:
    return report.page(list(runs), artefacts.splits(classes), audit)


def text(html: str) -> str:
    """Return what a reader sees of a page, spaces made one."""
    parser = Reader()
    parser.feed(html)
    return re.sub(r"\s+", " ", "".join(parser.parts))


class Reader(HTMLParser):
    """Collects text, elements, and whatever would be fetched or run."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.hidden = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.hidden = tag == "style"
        if tag in ("td", "th", "p", "small", "h2", "h3"):
            self.parts.append(" ")
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "onload", "onerror", "onclick")
        self.fetched += [value or "" for name, value in attributes if name in names]

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def test_the_first_sentence_names_the_best_with_its_interval_and_its_rivals() -> None:
    found = text(page(run("a", 90, 10), run("b", 86, 14), run("c", 40, 60)))
    assert "a is right most often: 90.0 % of 100 test pictures (95 % interval 82.6 % to 94.5 %)." in found
    assert "This test set does not set it apart from b: the intervals overlap." in found


def test_several_rivals_are_listed_and_all_of_them_counted() -> None:
    a, b, c, d = run("a", 90, 10), run("b", 88, 12), run("c", 86, 14), run("d", 20, 80)
    assert "apart from b and c: the intervals overlap." in text(page(a, b, c, d))
    assert "apart from any of the other 2 backbones: the intervals overlap." in text(page(a, b, c))
    assert "apart from `b` and `c`: the intervals overlap." in report.markdown([a, b, c, d], NOTHING_WRONG)


def test_a_clear_winner_and_a_single_backbone_have_their_own_words() -> None:
    assert "No other backbone\N{RIGHT SINGLE QUOTATION MARK}s interval overlaps its own." in text(
        page(run("a", 95, 5), run("b", 40, 60))
    )
    markdown = report.markdown([run("a", 95, 5), run("b", 40, 60)], NOTHING_WRONG)
    assert "No other backbone's interval overlaps its own." in markdown
    alone = text(page(run("a")))
    assert "a is right on 75.0 % of 20 test pictures" in alone
    assert "overlap" not in alone
    assert "**`a`** is right on 75.0 %" in report.markdown([run("a")], NOTHING_WRONG)


def test_random_weights_are_said_first_with_how_many_and_why() -> None:
    runs = [run("a", weights="random", reason="no network"), run("b", weights="random"), run("c", weights="none")]
    html = page(*runs)
    found = text(html)
    assert "These numbers must not be used to choose." in found
    assert "1 of 3 backbones carry random weights because: no network (a)." in found
    assert "1 of 3 backbones carry random weights because: params.yaml asks for them (b)." in found
    assert html.index("must not be used") < html.index("is right most often")
    markdown = report.markdown(runs, NOTHING_WRONG)
    assert markdown.index("must not be used to choose") < markdown.index("is right most often")
    assert "1 of 3 backbones carry random weights: `no network`." in markdown


def test_published_weights_need_no_banner() -> None:
    assert "must not be used" not in page(run("a"))
    assert "must not be used" not in report.markdown([run("a")], NOTHING_WRONG)


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    html = page(run("a"), run("b"))
    reader = Reader()
    reader.feed(html)
    assert not {"script", "link", "img", "iframe", "object"} & reader.tags
    assert {reference for reference in reader.fetched if not reference.startswith("#")} == {"audit.html"}
    assert not re.search(r"url\((?!#)|@import", html)
    assert "default-src 'none'" in html


def test_every_name_is_shown_as_text_whatever_it_holds() -> None:
    actual = list(EVIL) * 4
    predicted = actual[:14] + [EVIL[0]] * 14
    table = artefacts.answers(actual, predicted, EVIL)
    runs = [artefacts.run(name, table, EVIL) for name in EVIL]
    for found in runs:
        found.provenance["weights"]["source"] = found.benchmark["engine"] = "<script>alert(2)</script>"
    html = page(*runs, classes=EVIL, audit=artefacts.audit({"<img src=x onerror=alert(3)>": 2}))
    reader = Reader()
    reader.feed(html)
    assert not {"script", "img"} & reader.tags
    shown = "".join(reader.parts)
    for name in (*EVIL, "<script>alert(2)</script>", "<img src=x onerror=alert(3)>"):
        assert name in shown


def test_names_in_markdown_stay_in_their_cell() -> None:
    table = artefacts.answers(list(EVIL), list(EVIL), EVIL)
    lines = report.markdown([artefacts.run(name, table, EVIL) for name in EVIL], NOTHING_WRONG).splitlines()
    rows = [line for line in lines if re.match(r"\| \d", line)]
    assert len(rows) == len(EVIL)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {12}
    assert any("| ``a\\|b`c`\\nd`` |" in row for row in rows)
    assert any("| `<script>alert(1)</script>` |" in row for row in rows)


def test_few_classes_are_shown_as_a_grid_with_counts_and_shares() -> None:
    found = text(page(run("a", 15, 5)))
    assert "Rows: the class of the picture." in found
    assert "cat 80 % 8 20 % 2 dog 30 % 3 70 % 7" in found


def test_many_classes_are_shown_by_their_most_frequent_confusions() -> None:
    classes = tuple(f"species {number}" for number in range(200))
    actual = [name for name in classes for _ in range(3)]
    predicted = actual.copy()
    predicted[0:2] = [classes[7]] * 2
    predicted[3] = classes[9]
    several = artefacts.run("a", artefacts.answers(actual, predicted, classes), classes)
    perfect = artefacts.run("b", artefacts.answers(actual, actual, classes), classes)
    html = page(several, perfect, classes=classes)
    found = text(html)
    assert "species 0 species 7 2 66.7 %" in found
    assert "species 1 species 9 1 33.3 %" in found
    assert "No picture was given a wrong class." in found
    assert len(html) < 400_000


def test_a_class_without_test_pictures_has_no_recall() -> None:
    classes = ("cat", "dog", "fox")
    found = artefacts.run("a", artefacts.answers(["cat", "dog"], ["cat", "fox"], classes), classes)
    assert f"fox 0 {DASH}" in text(page(found, classes=classes))


def over_folds(backbone: str, accuracy: float, mean: float) -> Run:
    """Return a backbone right so often in the main run and, give or take a point, in each of four folds."""
    found = run(backbone, round(100 * accuracy), 100 - round(100 * accuracy), folds=4)
    found.metrics["folds"] |= {
        "accuracy": [mean - 0.01, mean, mean, mean + 0.01],
        "accuracy_mean": mean,
        "accuracy_sd": 0.008,
        "accuracy_mean_low": mean - 0.022,
        "accuracy_mean_high": mean + 0.022,
        "macro_f1_mean": 0.75,
        "log_loss_mean": 0.5,
    }
    return found


def test_folds_have_a_section_ranked_by_their_mean_beside_the_rank_on_the_test_pictures() -> None:
    found = text(page(over_folds("a", 0.9, 0.80), over_folds("b", 0.86, 0.83), over_folds("c", 0.4, 0.42)))
    assert "Over 4 folds b has the highest mean accuracy of all: 83.0 % (95 % interval 80.8 % to 85.2 %)." in found
    assert "On the test pictures of the ranking above a is right most often." in found
    assert "The folds do not set it apart from a: the intervals overlap." in found
    assert f"1 b 2 83.0 % 80.8{DASH}85.2 % 0.8 % 0.750 0.500 2 a 1 80.0 % 77.8{DASH}82.2 % 0.8 %" in found
    assert "Each of 100 pictures is tested once, by a network trained without it (25 pictures a fold)." in found


def test_a_first_place_in_both_rankings_and_a_clear_one_have_their_own_words() -> None:
    both = text(page(over_folds("a", 0.9, 0.9), over_folds("b", 0.8, 0.8)))
    assert "On the test pictures of the ranking above" not in both
    assert "No other backbone\N{RIGHT SINGLE QUOTATION MARK}s interval over the folds overlaps its own." in both
    three = [over_folds(name, 0.9, 0.9) for name in "abc"]
    assert "The folds do not set it apart from any of the other 2 backbones" in text(page(*three))
    alone = text(page(over_folds("a", 0.9, 0.9)))
    assert "a has a mean accuracy: 90.0 %" in alone


def test_folds_stand_in_the_markdown_too() -> None:
    markdown = report.markdown([over_folds("a", 0.9, 0.80), over_folds("b", 0.86, 0.83)], NOTHING_WRONG)
    assert "### Over 4 folds" in markdown
    assert "| 1 | `b` | 2 | 83.0 % | 80.8 % to 85.2 % | 0.8 % | 0.750 | 0.500 |\n| 2 | `a` | 1 | 80.0 %" in markdown
    assert "The folds do not set `b` apart from `a`: the intervals overlap." in markdown
    clear = report.markdown([over_folds("a", 0.9, 0.5), over_folds("b", 0.86, 0.83)], NOTHING_WRONG)
    assert "No other backbone's interval over the folds overlaps that of `b`." in clear


def test_without_folds_nothing_is_said_of_them() -> None:
    assert "fold" not in text(page(run("a"), run("b")))
    assert "fold" not in report.markdown([run("a"), run("b")], NOTHING_WRONG)


def test_the_pictures_are_counted_by_class_and_split() -> None:
    found = text(page(run("a")))
    assert "class train validation test all cat 44 22 22 88 dog 44 22 22 88" in found
    assert "176 pictures of 2 classes. No two are copies of one another. No file was rejected." in found


def test_what_was_left_out_is_counted_with_its_reason_the_most_frequent_first() -> None:
    copies = {"groups": 3, "pictures": 6}
    audit = artefacts.audit({"cannot be read": 2, "too small": 5}, exact_copies=copies)
    found = text(page(run("a"), audit=audit))
    assert "Groups of exact copies: 3, of near copies: 0; a group lies on one side of the split." in found
    assert "Files rejected: 7; data/rejects.csv names them." in found
    assert found.index("too small") < found.index("cannot be read")


def test_what_was_not_measured_is_a_dash() -> None:
    benchmark = artefacts.benchmark(10.0, 1000) | {"flops": None, "peak_memory_mb": None, "parameters": None}
    table = artefacts.answers(["cat", "dog"], ["cat", "dog"], TWO)
    html = page(artefacts.run("a", table, TWO, benchmark=benchmark))
    assert html.count(f"<td>{DASH}</td>") == 3


def test_what_the_audit_found_is_repeated_where_it_changes_the_reading() -> None:
    audit = artefacts.audit(
        {"broken": 3},
        leaks={"groups": 1, "pictures": 2},
        small_classes={"<b>cat": 4},
        exact_copies={"groups": 3, "pictures": 6},
        suspects={"pictures": 40, "share": 0.1, "weights": "imagenet", "accuracy_of_probes": {"vgg16": 0.8}},
    )
    html = page(run("a"), audit=audit)
    found, markdown = text(html), report.markdown([run("a")], audit)
    assert "1 class has too few training pictures to be learnt: <b>cat (4); add pictures" in found
    assert "1 class has too few training pictures to be learnt: `<b>cat (4)`; add pictures" in markdown
    for said in (found, markdown):
        assert "2 pictures with a copy on another side of the split that the source brought" in said
        assert "40 labels (10.0 %) that networks doubt" in said
        assert "3 files left out" not in said
    assert html.index("Read the numbers with this in mind") < html.index("is right on")
    assert "in mind" not in page(run("a"))


def test_the_same_input_gives_the_same_bytes() -> None:
    assert page(run("a")) == page(run("a"))
    assert report.markdown([run("a")], NOTHING_WRONG) == report.markdown([run("a")], NOTHING_WRONG)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, DASH), (0, "0.00"), (0.01234, "0.0123"), (3.2149, "3.21"), (22.04, "22.0"), (1234.5, "1,234")],
)
def test_measured_numbers_have_three_significant_digits(value: float | None, expected: str) -> None:
    assert pages.figures(value) == expected
