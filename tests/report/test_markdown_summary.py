"""comparison.md says in short what the page says: the verdict first, names as text, in either language."""

import re
from typing import Any

import pytest
from markdown_it import MarkdownIt

from stages.pages.catalogues import named
from stages.pages.language import ENGLISH, Language
from stages.report import markdown_summary
from stages.report.provenance import Change, Commit, Provenance
from stages.report.verdict import Evidence
from tests.support import artefacts
from tests.support.contest import evidence
from tests.support.material import numbers

SPANISH = named("es")
COMMIT = (
    "- Commit: `cc`, the last one before this run that changed anything in `stages`, `params.yaml`, `dvc.yaml` and "
    "`uv.lock`; HEAD may be later."
)
PROVENANCE = Provenance("aa", "bb", {"train": 220, "test": 100}, 20, Commit("cc", ()), {"Python": "3.11.9"}, [])
EVIL = (
    "<script>alert(1)</script>", "\"quo'ted", "שלום", "👩‍🚀 猫", "x" * 200, "$x$ *y* [z](http://z)", "a|b`c`\nd"
)  # fmt: skip


def markdown(found: Evidence, language: Language = ENGLISH, provenance: Provenance = PROVENANCE) -> str:
    return markdown_summary.markdown(numbers(found, language, provenance=provenance), language)


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"\| \d", line)]


def test_the_verdict_comes_first_then_what_is_to_be_known_then_the_ranking() -> None:
    lines = markdown(evidence({"large": range(10), "small": range(12), "x": range(40)})).splitlines()
    assert lines[0] == "## Backbone comparison"
    assert lines[2].startswith("`poses`: 440 images of 2 classes, 100 of them in the test split.")
    assert lines[4].startswith(
        "**Use `large`, which scores highest: `small` is 18 times smaller than it, but may be up to"
    )
    assert lines[6] == "Next: label new images with it: `python -m stages.predict FOLDER`"
    assert lines[8].startswith("- `large` is right on 90.0 % of 100 test images")
    table = next(number for number, line in enumerate(lines) if line.startswith("| | backbone |"))
    assert [line.split(" | ")[1] for line in lines[table + 2 : table + 5]] == ["`large`", "`small`", "`x`"]


def test_points_against_the_best_are_bold_where_they_are_significant() -> None:
    found = markdown(evidence({"large": range(10), "small": range(12), "x": range(40)}))
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    assert [row.split(" | ")[4] for row in rows(found)[:3]] == [dash, f"{minus}2.0", f"**{minus}30.0**"]
    assert "Points in bold are significant" in found
    assert "Points in bold" not in markdown(evidence({"a": ()}))


def test_random_weights_are_said_first() -> None:
    lines = markdown(evidence({"a": (), "b": ()}, weights={"a": "random"})).splitlines()
    assert lines[4] == "**These numbers must not be used to choose: 1 of 2 backbones carries random weights.**"
    assert f"- Random weights in `a` because: `{artefacts.REASON}`." in lines


def test_what_the_audit_found_is_repeated_where_it_changes_the_reading_and_leaks_once() -> None:
    audit = artefacts.audit(
        {"broken": 3},
        leaks={"groups": 1, "images": 2, "test": 2, "split_used": True},
        small_classes={"<b>cat": 4},
        exact_copies={"groups": 3, "images": 6},
    )
    found = markdown(evidence({"a": ()}, audit=audit))
    assert (
        "Read the numbers with this in mind:\n\n"
        "- 1 class has too few training images to be learned reliably: `<b>cat (4)`; add"
    ) in found
    assert "- 2 images are copies of one another, in the source's own test split and outside of it; that test" in found
    assert "files left out" not in found
    assert "in mind" not in markdown(evidence({"a": ()}))
    refused = markdown(evidence({"a": ()}, audit=audit, source_split=True))
    assert refused.count("in the source's own test split and outside of it") == 1


def test_every_head_that_was_tried_has_a_row_with_what_the_kept_one_is_ahead() -> None:
    found = markdown(
        evidence({"a": range(10), "scratch": range(40)}, weights={"scratch": "none"}, kept={"a": "linear"})
    )
    section = found[found.index("### Which head was kept") :]
    dash = "\N{EN DASH}"
    assert re.search(rf"\| `a` \| linear \| yes \| [\d.]+ \| 90\.0 % \| [\d.]+ \| {dash} \| {dash} \|\n", section)
    dense = re.search(r"\| `a` \| dense \| no \| [\d.]+ \| ([\d.]+) % \| [\d.]+ \| (\S+) \| \S+ … \S+ \|\n", section)
    assert dense
    assert float(dense[2].replace("\N{MINUS SIGN}", "-")) == pytest.approx(90 - float(dense[1]), abs=0.05)
    assert re.search(rf"\| `scratch` \| whole network \| yes \| [\d.]+ \| 60\.0 % \| [\d.]+ \| {dash} \|", section)


def test_folds_have_a_table_where_there_are_folds() -> None:
    found = markdown(evidence({"a": range(10), "b": range(40)}, folds=4))
    assert "### Over 4 folds\n\n| rank by mean | backbone |" in found
    assert re.search(r"\| 1 \| `a` \| 90\.0 % \| [\d.]+ % to [\d.]+ % \| [\d.]+ % \|\n\| 2 \| `b` \| 60\.0 % \|", found)
    assert "fold" not in markdown(evidence({"a": range(10), "b": range(40)}))


def test_folds_that_test_images_by_which_something_was_chosen_say_so() -> None:
    sentence = "on images that the folds test as well, so these accuracies are somewhat optimistic.\n"
    assert sentence in markdown(evidence({"a": range(10), "b": range(40)}, folds=4))
    whole = {"scratch": "whole"}
    assert sentence not in markdown(evidence({"scratch": range(40)}, weights={"scratch": "none"}, kept=whole, folds=4))


def test_the_gain_by_transfer_learning_has_sentences_and_a_table_by_share_of_the_images() -> None:
    found = markdown(evidence({"vgg16": range(10), "scratch": range(40)}, weights={"scratch": "none"}))
    section = found[found.index("### Gain by transfer learning") :]
    assert "- Transfer learning helped: 1 of 1 pretrained backbones is significantly better than `scratch`" in section
    assert "| backbone | weights | points against `scratch` | training, s | 10 % | 25 % | 50 % | 100 % |\n" in section
    assert re.search(
        r"\n\| `vgg16` \| `imagenet` \| \*\*\+30\.0\*\* \| [\d.]+ \|( [\d.]+ % \|){3} 90\.0 % \|\n", section
    )
    assert "transfer" not in markdown(evidence({"a": (), "b": ()}))


def test_how_well_the_ranking_predicted_the_result_has_sentences_and_a_table_with_both_ranks() -> None:
    found = markdown(evidence({"a": range(10), "b": range(4), "scratch": range(40)}, weights={"scratch": "none"}))
    section = found[found.index("### How well the ranking predicted the result") :]
    assert "fewer than 3 backbones were ranked." in section
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    for row in (
        f"| 1 | `a` | 88.0 % | 84.0 % to 91.0 % | {minus}0.100 | 1 | 90.0 % | 2 |",
        f"| 2 | `b` | 86.0 % | 82.0 % to 89.0 % | {minus}0.200 | 2 | 96.0 % | 1 |",
        f"| {dash} | `scratch` | {dash} | {dash} | {dash} | {dash} | 60.0 % | 3 |",
    ):
        assert row in section


def test_where_the_numbers_come_from_stands_at_the_end() -> None:
    provenance = Provenance(**{**vars(PROVENANCE), "changes": [Change("finetune.head.dropout", "0.3", "0.5")]})
    found = markdown(evidence({"a": ()}), provenance=provenance)
    assert found[found.index("### Where the numbers come from") :].splitlines()[2:] == [
        "- 320 images: 220 training, 0 validation, 100 test; SHA-256 `aa`.",
        "- Split: SHA-256 `bb`; seed 20.",
        COMMIT,
        "- Weights of `a`: `a_notop.h5`, `md5:6d6bbae143d832006294945121d1f1fc`.",
        "- Trained with keras 3.15.1, tensorflow 2.21.0.",
        "- Calculated with Python 3.11.9.",
        "- Parameter `finetune.head.dropout`: `0.3`, default `0.5`.",
    ]


HOSTILE: dict[str, Any] = {
    "wrong": {name: range(number) for number, name in enumerate(EVIL)},
    "weights": {EVIL[2]: "none"},
    "folds": 4,
    "audit": artefacts.audit(small_classes=dict.fromkeys(EVIL, 2)),
}


@pytest.mark.parametrize("language", [ENGLISH, SPANISH], ids=lambda language: language.code)
def test_every_name_is_shown_as_text_and_stays_in_its_cell(language: Language) -> None:
    provenance = Provenance(
        **{**vars(PROVENANCE), "commit": Commit("cc", EVIL), "changes": [Change(EVIL[0], *EVIL[5:])]}
    )
    found = evidence(**HOSTILE)
    for run in found.runs:
        run.provenance["weights"].update(file="<img src=x onerror=alert(2)>", checksum="|`")
    html = MarkdownIt("commonmark").enable("table").render(markdown(found, language, provenance))
    assert set(re.findall(r"<(\w+)", html)) == {
        "h2", "h3", "p", "strong", "ul", "li", "code", "table", "thead", "tbody", "tr", "th", "td"
    }  # fmt: skip
    code = re.findall(r"<code>(.*?)</code>", html)
    for name in ("&lt;script&gt;alert(1)&lt;/script&gt;", "&quot;quo'ted", *EVIL[2:6], "a|b`c`\\nd"):
        # In the rankings, over the folds, in the gain by transfer learning, among weights and uncommitted files.
        assert code.count(name) >= 6
    cells = [len(re.findall(r"<t[dh]", row)) for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)]
    assert cells == [12] * 8 + [8] * 14 + [5] * 8 + [8] * 16


def test_all_of_it_is_in_spanish_but_for_names() -> None:
    case = {"vgg16": range(10), "inception_v3": range(12), "scratch": range(40)}
    audit = artefacts.audit(imbalance=12.3)
    found = evidence(case, weights={"scratch": "none"}, folds=4, audit=audit)
    english, spanish = markdown(found), markdown(found, SPANISH)
    assert "intervalo del 95 %" in spanish
    assert re.search(r"\| 1 \| `vgg16` \| 90,0 % \| [\d,]+ % a [\d,]+ % \|", spanish)
    # Lines that are the same: empty ones and the tables' rules.
    same = set(english.splitlines()) & set(spanish.splitlines())
    assert all(re.fullmatch(r"[|:-]*", line) for line in same - {COMMIT})
    words = {"the", "of", "and", "is", "on", "backbone", "images", "training", "with"}
    assert not words & set(re.findall(r"\w+", re.sub(r"`[^`]*`", "", spanish).lower()))


def test_the_same_input_gives_the_same_bytes() -> None:
    found = evidence({"a": range(3), "b": range(9)})
    assert markdown(found) == markdown(found)
