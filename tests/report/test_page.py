"""The page says what the numbers allow, escapes every name, and needs no network."""

import base64
import hashlib
import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stages.core.measure import Measure
from stages.pages.catalogues import named
from stages.pages.language import ENGLISH
from stages.report import page as report
from stages.report.examples import Explanation
from stages.report.findings import misleading
from stages.report.opening import Setting
from stages.report.provenance import Commit
from stages.report.runs import Run
from tests.support import artefacts, material
from tests.support.contest import TWO
from tests.support.contest import evidence as contest

DASH = "\N{EN DASH}"
EVIL = ("<script>alert(1)</script>", "\"quo'ted", "שלום", "👩‍🚀 猫", "x" * 200, "$x$", "a|b`c`\nd")


class Reader(HTMLParser):
    """Collects what a reader sees, elements with their attributes, and whatever would be fetched."""

    UNSEEN = ("style", "script", "svg")

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.fetched: list[str] = []
        self.unseen = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self.unseen += tag in self.UNSEEN
        if tag in ("td", "th", "p", "li", "dt", "dd", "small", "h2", "h3", "figcaption", "summary"):
            self.parts.append(" ")
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "onload", "onerror", "onclick")
        self.fetched += [value or "" for name, value in attributes if name in names]

    def handle_endtag(self, tag: str) -> None:
        self.unseen -= tag in self.UNSEEN

    def handle_data(self, data: str) -> None:
        if not self.unseen:
            self.parts.append(data)

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def text(page: str) -> str:
    """Return what a reader sees of a page, spaces made one."""
    return re.sub(r"\s+", " ", "".join(read(page).parts))


def answers(classes: tuple[str, ...], actual: list[str], predicted: list[str], backbone: str = "a") -> Run:
    return artefacts.run(backbone, artefacts.answers(actual, predicted, classes), classes)


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page about nine backbones."""
    return material.page(tmp_path_factory.mktemp("nine"), material.evidence(artefacts.nine()))


def test_the_verdict_comes_first_then_what_is_to_be_known_then_the_ranking(tmp_path: Path) -> None:
    found = text(material.page(tmp_path, contest({"large": range(10), "small": range(12), "x": range(40)})))
    verdict, note, ranking = (
        found.index(part)
        for part in ("Use large, which scores highest:", "large is right on 90.0 % of 100", "1 large 90.0 %")
    )
    assert verdict < note < ranking
    assert "test images 100 detect a difference of 7.7 points with 80 % power" in found
    assert "of the test images right 90.0 % 95 % confidence interval 82.6 % to 94.5 %" in found


def test_every_part_has_a_heading_that_the_contents_lead_to(nine: str) -> None:
    links = re.findall(r'<li><a href="#(\w+)">([^<]+)</a>', nine)
    assert links == re.findall(r'<h2 id="(\w+)">([^<]+)</h2>', nine)
    assert [anchor for anchor, _ in links] == [
        "ranking", "heads", "pairwise_comparison", "costs", "transfer", "ranking_agreement", "curves", "confusion",
        "recall", "calibration", "mistakes", "heatmaps", "embedding", "data", "provenance", "glossary",
    ]  # fmt: skip


def test_random_weights_are_said_in_place_of_a_verdict_and_wherever_a_backbone_is_named(tmp_path: Path) -> None:
    page = material.page(tmp_path, contest({"a": (), "b": range(9)}, weights={"a": "random"}))
    found = text(page)
    assert "These numbers must not be used to choose: 1 of 2 backbones carries random weights." in found
    assert "1 a random 100.0 %" in found
    assert "2 b 91.0 %" in found
    assert 'class="verdict unusable"' in page
    assert 'class="facts"' not in page
    assert 'class="chosen"' not in page


def test_the_page_fetches_nothing_and_runs_only_its_own_scripts(nine: str) -> None:
    reader = read(nine)
    assert not {"link", "iframe", "object", "embed", "form"} & reader.tags
    addresses = {address for address in reader.fetched if not address.startswith(("#", "data:image/webp;base64,"))}
    assert addresses == {"audit.html"}
    assert not re.search(r"url\((?!#)|@import", re.sub(r"<script.*?</script>", "", nine, flags=re.DOTALL))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', nine)
    scripts = re.findall(r"<script>(.*?)</script>", nine, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'; script-src " + " ".join(f"'sha256-{digest}'" for digest in digests)
    )
    assert len(digests) == 2
    # As the browser reads a line's end, and so as it takes the digest.
    assert "\r" not in nine


def test_every_image_and_figure_has_a_text_in_its_place(nine: str) -> None:
    elements = read(nine).elements
    images = [attributes for tag, attributes in elements if tag == "img"]
    figures = [attributes for _, attributes in elements if attributes.get("class") == "figure"]
    assert len(images) > 9
    assert all(attributes["alt"] for attributes in images)
    assert len(figures) == 1 + 3 + 1 + 1 + 2 * 9 + 9 + 1
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in figures)


def test_every_region_is_labelled_by_a_heading_of_the_page(nine: str) -> None:
    elements = [attributes for _, attributes in read(nine).elements]
    labels = {attributes["aria-labelledby"] for attributes in elements if "aria-labelledby" in attributes}
    assert labels - {attributes.get("id") for attributes in elements} == set()


def test_the_page_is_small(nine: str) -> None:
    assert len(nine.encode()) < 3_000_000


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    found = material.evidence(artefacts.nine()[:2])
    assert material.page(tmp_path, found) == material.page(tmp_path, found)


def test_every_name_is_shown_as_text_whatever_it_holds(tmp_path: Path) -> None:
    actual = list(EVIL) * 4
    predicted = actual[:14] + [EVIL[0]] * 14
    runs = [answers(EVIL, actual, predicted, name) for name in EVIL]
    for found in runs:
        found.provenance["weights"]["source"] = found.benchmark["engine"] = "<script>alert(2)</script>"
    audit = artefacts.audit({"<img src=x onerror=alert(3)>": 2})
    files = runs[0].tested["file"]
    paths = {name: f"<b>{number}</b>/\u202ename" for number, name in enumerate(files)}
    page = material.page(tmp_path, material.evidence(runs, audit=audit), paths=paths)
    reader = read(page)
    assert [tag for tag in ("script", "img", "b") if (tag, {}) in reader.elements] == ["script", "b"]
    assert sum(tag == "script" for tag, _ in reader.elements) == 3
    assert all("onerror" not in attributes for _, attributes in reader.elements)
    shown = "".join(reader.parts)
    for name in (*EVIL, "<script>alert(2)</script>", "<img src=x onerror=alert(3)>", "<b>15</b>/\u202ename"):
        assert name in shown
    data = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, flags=re.DOTALL)
    assert data
    assert "<" not in data[1]


def test_pairwise_comparisons_are_a_matrix_with_every_sentence_and_a_list_of_all_pairs(tmp_path: Path) -> None:
    page = material.page(tmp_path, contest({"a": (), "b": range(3), "c": range(40)}))
    found, minus = text(page), "\N{MINUS SIGN}"
    assert f"1 a +3.0 +40.0 1 0 2 b {minus}3.0 +37.0 1 0 3 c {minus}40.0 {minus}37.0 0 2" in found
    assert re.search('class="better" title="a is better than c by 40.0 points', page)
    assert f"a b 3.0 {minus}0.8 … 8.5 " in found
    assert "a c 40.0 " in found
    assert "No difference below 6.0 points can be significant, not even that of one pair alone." in found
    assert "An interval is for its pair alone; only the colours and" in found
    assert "interval and p are by two methods (of accuracies: score interval and exact test)" in found


def test_one_backbone_has_nobody_to_be_compared_with(tmp_path: Path) -> None:
    page = material.page(tmp_path, contest({"a": range(5)}))
    found = text(page)
    assert "a is the only backbone measured" in found
    assert "Pairwise comparisons" not in found
    assert "Wrong by all" not in found
    assert 'id="chooser"' not in page


def test_two_classes_make_a_grid_with_counts_and_shares(tmp_path: Path) -> None:
    actual = ["cat"] * 10 + ["dog"] * 10
    found = text(
        material.page(tmp_path, material.evidence([answers(TWO, actual, ["cat"] * 8 + ["dog"] * 9 + ["cat"] * 3)]))
    )
    assert "cat 80 % 8 20 % 2 dog 30 % 3 70 % 7" in found


def test_where_costs_decide_confusion_and_recall_say_that_they_are_of_the_decisions(tmp_path: Path) -> None:
    measure = Measure("cost", {"cat": {"dog": 3.0}})
    said = "By the decisions of least expected cost (report.costs), as python -m stages.predict takes them; accuracy"
    found = text(material.page(tmp_path / "cost", contest({"a": (), "b": range(9)}, measure=measure)))
    assert found.count(said) == 2
    assert found.count("Predictions here are the most probable classes") == 2
    assert "decisions of least" not in text(material.page(tmp_path / "accuracy", contest({"a": (), "b": range(9)})))


def test_many_classes_are_shown_by_their_most_frequent_confusions(tmp_path: Path) -> None:
    classes = tuple(f"species {number}" for number in range(200))
    actual = [name for name in classes for _ in range(3)]
    predicted = actual.copy()
    predicted[0:2] = [classes[7]] * 2
    predicted[3] = classes[9]
    runs = [answers(classes, actual, predicted, "a"), answers(classes, actual, actual, "b")]
    page = material.page(tmp_path, material.evidence(runs))
    found = text(page)
    assert "With 200 classes: the most frequent confusions of each backbone." in found
    assert "species 0 species 7 2 66.7 %" in found
    assert "species 1 species 9 1 33.3 %" in found
    assert "No image was given a wrong class." in found
    assert len(page.encode()) < 4_000_000


def test_confusions_of_a_single_image_are_left_out_where_not_all_fit(tmp_path: Path) -> None:
    classes = tuple(f"species {number}" for number in range(30))
    actual = [name for name in classes for _ in range(3)]
    # Two images of one class, and one of each of 16 others: more than the 15 rows of the list.
    predicted = actual.copy()
    predicted[87:89] = [classes[7]] * 2
    for number in range(16):
        predicted[3 * number] = classes[number + 1]
    found = text(material.page(tmp_path, material.evidence([answers(classes, actual, predicted)])))
    listed = found[found.index("With 30 classes") : found.rindex("Images and recall of each class")]
    assert "species 29 species 7 2 66.7 %" in listed
    assert " 1 33.3 %" not in listed
    predicted[88] = classes[29]
    again = text(material.page(tmp_path, material.evidence([answers(classes, actual, predicted)])))
    assert "No two classes were confused more than once." in again
    assert "No image was given a wrong class." not in again


def test_of_a_class_with_few_test_images_those_that_are_right_are_counted(tmp_path: Path) -> None:
    classes = ("cat", "dog", "fox")
    actual = ["cat"] * 10 + ["dog"] * 9 + ["fox"]
    page = material.page(tmp_path, material.evidence([answers(classes, actual, ["cat"] * 12 + actual[12:])]))
    found = text(page)
    assert "cat 44 22 22 100 % dog 44 22 22 7 of 9 fox 44 22 22 1 of 1" in found
    assert "Most classes have fewer than 10 test images" in found
    # A colour would say as much as that of a class with many images.
    assert page.count('class="right" data-value') == 1
    many = material.page(tmp_path, material.evidence([answers(TWO, ["cat", "dog"] * 10, ["cat"] * 20)]))
    assert "Most classes have fewer" not in text(many)


@pytest.mark.parametrize(
    ("wrong", "weights", "doubted"),
    [(range(10), {}, True), (range(11), {}, False), (range(5), {"a": "random", "b": "random"}, False)],
)
def test_labels_that_all_get_wrong_are_worth_a_look_where_few_are_and_the_weights_are_not_random(
    wrong: range,
    weights: dict[str, str],
    tmp_path: Path,
    *,
    doubted: bool,
) -> None:
    found = text(material.page(tmp_path, contest({"a": wrong, "b": range(40)}, weights=weights)))
    assert f"No backbone gets these {len(wrong)} of 100 test images right." in found
    assert ("Their labels are worth a look." in found) == doubted


def test_a_class_without_test_images_has_no_recall(tmp_path: Path) -> None:
    classes = ("cat", "dog", "fox")
    found = answers(classes, ["cat", "dog"], ["cat", "fox"])
    assert f"fox 44 22 22 {DASH}" in text(material.page(tmp_path, material.evidence([found])))


def test_constant_predictions_and_perfect_scores_make_a_page(tmp_path: Path) -> None:
    actual = ["cat", "dog"] * 20
    runs = [answers(TWO, actual, actual, "perfect"), answers(TWO, actual, ["cat"] * 40, "constant")]
    found = text(material.page(tmp_path, material.evidence(runs)))
    assert "Use perfect: it is significantly better than constant" in found
    assert "dog 44 22 22 100 % 0 %" in found
    assert "Every test image is recognised by one backbone at least." in found
    assert "1 perfect 0 of 40 wrong" in found
    assert "2 constant 20 of 40 wrong" in found
    # Where all resamples agree the bootstrap has no interval, but Wilson has.
    assert f"1 perfect 1.000 0.912{DASH}1.000 1.000 {DASH}" in found


def test_the_mistakes_of_each_backbone_come_surest_first_and_those_of_all_once(tmp_path: Path) -> None:
    runs = artefacts.nine()[:2]
    found = text(material.page(tmp_path, material.evidence(runs), examples=2))
    for run in runs:
        wrong = run.tested[run.tested["label"] != run.tested["predicted"]].sort_values("confidence", ascending=False)
        said = [
            f"{row.label} → {row.predicted} {row.confidence:.0%} images/{row.file}".replace("%", " %")
            for row in wrong.itertuples()
        ]
        assert all(sentence in found for sentence in said[:2])
        assert said[2] not in found
        assert f"{run.backbone} {len(wrong)} of 110 wrong" in found
        assert f"And {len(wrong) - 2} more, see data/models/{run.backbone}/predictions.csv." in found
    sets = [set(run.tested.loc[run.tested["label"] != run.tested["predicted"], "file"]) for run in runs]
    assert f"No backbone gets these {len(sets[0] & sets[1])} of 110 test images right." in found


def test_what_a_backbone_looks_at_stands_beside_the_image(tmp_path: Path) -> None:
    run = artefacts.nine()[0]
    page = material.page(tmp_path, material.evidence([run]))
    examples = artefacts.explained(run.tested)
    assert page.count("Heatmap of the evidence for") == len(examples) == 4
    folder = tmp_path / "explanations/0"
    for name in (*examples["image"], *examples["overlay"]):
        assert base64.b64encode((folder / name).read_bytes()).decode() in page


def test_folds_have_a_section_ranked_by_their_mean_beside_the_rank_on_the_test_images(tmp_path: Path) -> None:
    found = contest({"a": range(10), "b": range(14), "c": range(60)}, folds=4)
    for run, mean in zip(found.runs, (0.80, 0.83, 0.42), strict=True):
        run.metrics["folds"] |= {"accuracy_mean": mean, "accuracy_sd": 0.008}
        run.metrics["folds"] |= {"accuracy_mean_low": mean - 0.022, "accuracy_mean_high": mean + 0.022}
    page = text(material.page(tmp_path, found))
    assert f"2 b 83.0 % 80.8{DASH}85.2 % 0.8" in page
    assert page.index("2 b 83.0 %") < page.index("1 a 80.0 %") < page.index("3 c 42.0 %")
    assert "Over 4 folds" in page
    assert "Each of 100 images is tested once, by a network trained without it (25 images a fold)." in page
    assert "on images that the folds test as well, so these accuracies are somewhat optimistic." in page


def test_without_folds_and_without_a_network_from_scratch_neither_is_spoken_of(tmp_path: Path) -> None:
    found = text(material.page(tmp_path, contest({"a": (), "b": range(9)})))
    assert "folds" not in found
    assert "transfer learning" not in found


def test_what_transfer_learning_bought_is_said_and_shown_by_backbone_and_share(nine: str) -> None:
    found = text(nine)
    assert "pretrained backbones are significantly better than scratch" in found
    assert "training, s ↕".replace(" ↕", "") in found
    assert "with 10 % with 25 % with 50 % with 100 % gain, points" in found
    # The network itself gains nothing.
    assert re.search(rf"9 scratch [\d.]+( [\d.]+ %){{4}} {DASH} {DASH}", found)


def test_without_shares_there_is_no_figure_of_them(tmp_path: Path) -> None:
    runs = artefacts.nine()[-2:]
    for run in runs:
        run.metrics.update(shares=[], learning_curve=None)
    page = material.page(tmp_path, material.evidence(runs))
    assert "Gain by transfer learning" in page
    assert 'data-figure="training-images"' not in page


def test_a_linear_head_has_no_seed_to_spread_over_and_no_curves(tmp_path: Path) -> None:
    page = material.page(tmp_path, contest({"a": range(10), "b": range(12)}, kept={"b": "dense"}))
    found = text(page)
    assert re.search(rf"1 a 90\.0 % [\d.]+{DASH}[\d.]+ % {DASH} ", found)
    assert re.search(rf"2 b 88\.0 % [\d.]+{DASH}[\d.]+ % [\d.]+ ", found)
    assert "trainings with different seeds, 3 at most" in found
    assert 'data-figure="loss-2"' in page
    assert 'data-figure="loss-1"' not in page
    # The place of what is left keeps its number.
    assert re.search(
        r'<section data-place="2"><h3 title="b">.*?</h3>\s*<figure>\s*<div class="figure" data-figure="acc', page
    )


def test_where_nothing_was_trained_in_epochs_neither_curves_nor_spread_are_spoken_of(tmp_path: Path) -> None:
    page = material.page(tmp_path, contest({"a": range(10), "b": range(12)}))
    assert "Learning curves" not in page
    assert "Spread:" not in page


def test_every_head_that_was_tried_has_its_row(tmp_path: Path) -> None:
    found = contest({"a": range(10), "scratch": range(40)}, weights={"scratch": "none"}, kept={"a": "unfrozen"})
    page = text(material.page(tmp_path, found))
    assert re.search(r"1 a linear no [\d.]+ [\d.]+ % [\d.]+ \S+ \S+ … \S+ [\d.]+ 1 a dense no", page)
    assert re.search(rf"1 a unfrozen yes [\d.]+ 90\.0 % [\d.]+ {DASH} {DASH} {DASH} 2 scratch whole network yes", page)


def test_without_a_network_from_scratch_fewer_images_are_still_spoken_of(tmp_path: Path) -> None:
    found = text(material.page(tmp_path, material.evidence(artefacts.nine()[:2])))
    assert "With fewer and with more images What twice the training images would bring" in found
    assert "training, s with 10 % with 25 % with 50 % with 100 %" in found
    assert "gain, points" not in found


def test_what_was_not_explained_is_not_spoken_of(tmp_path: Path) -> None:
    made = material.material(tmp_path, contest({"a": range(5)}))
    nothing = Explanation([], made.explanations["a"].places[:0])
    found = text(report.page(replace(made, explanations={"a": nothing}, examples=0), ENGLISH))
    assert "Heatmaps: where the networks look" not in found
    assert "Which images look alike" not in found
    assert "a 5 of 100 wrong And 5 more, see data/models/a/predictions.csv." in found


def test_the_images_are_counted_by_class_and_split(tmp_path: Path) -> None:
    found = text(material.page(tmp_path, contest({"a": ()})))
    assert "class training validation test a cat 44 22 22 100 % dog 44 22 22 100 %" in found
    assert "176 images of 2 classes. No two are copies of one another. No file was rejected." in found


def test_what_was_left_out_is_counted_with_its_reason_the_most_frequent_first(tmp_path: Path) -> None:
    copies = {"groups": 3, "images": 6}
    audit = artefacts.audit({"cannot be read": 2, "too small": 5}, exact_copies=copies)
    found = text(material.page(tmp_path, contest({"a": ()}, audit=audit)))
    assert "Groups of exact copies: 3, of near copies: 0; each group is in one split." in found
    assert "Files rejected: 7; data/rejects.csv names them." in found
    assert found.index("too small") < found.index("cannot be read")


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    found = contest({"a": ()})
    found.runs[0].benchmark.update({"flops": None, "peak_memory_mb": None, "parameters": None})
    page = material.page(tmp_path, found)
    assert f"130 32 {DASH} {DASH} 10.0 {DASH}" in text(page)


def test_a_cost_names_the_machine_and_with_several_whose_it_is(tmp_path: Path) -> None:
    found = contest({"a": (), "b": range(9)})
    assert "Processor: x86-64, 2 cores; threads: 2; engine: openvino, float32." in text(material.page(tmp_path, found))
    found.runs[1].benchmark["processor"] = "another"
    page = text(material.page(tmp_path, found))
    assert "Processor: x86-64, 2 cores; threads: 2; engine: openvino, float32: a." in page
    assert "Processor: another; threads: 2; engine: openvino, float32: b." in page


def test_what_the_audit_found_is_repeated_where_it_changes_the_reading(tmp_path: Path) -> None:
    audit = artefacts.audit(
        {"broken": 3},
        small_classes={"<b>cat": 4},
        exact_copies={"groups": 3, "images": 6},
        suspects={"images": 40, "test": 0, "share": 0.1, "weights": "imagenet", "accuracy_of_probes": {"vgg16": 0.8}},
    )
    found = text(material.page(tmp_path, contest({"a": ()}, audit=audit)))
    assert len(misleading(audit)) == 2
    for finding in misleading(audit):
        assert str(finding.remedy) in found
        assert all(name in found for name in finding.names)
    assert "3 files left out" not in found
    assert "in mind" not in text(material.page(tmp_path, contest({"a": ()})))


def test_every_word_that_the_sections_link_to_is_explained_once_at_the_end(nine: str) -> None:
    linked, explained = re.findall('href="#term-([^"]+)"', nine), re.findall('id="term-([^"]+)"', nine)
    assert len(set(linked)) > 15
    assert set(linked) <= set(explained)
    assert len(set(explained)) == len(explained)
    assert nine.rindex('href="#term-') < nine.index('id="term-')


def test_the_first_screen_names_images_commit_and_a_busy_machine_and_the_next_command(tmp_path: Path) -> None:
    found = contest({"a": (), "b": range(30)})
    found.runs[0].benchmark["latency_under_load"] = True
    known = replace(material.numbers(found).provenance, commit=Commit("0123456789abcdef", ("params.yaml",)))
    page = text(material.page(tmp_path, found, provenance=known))
    opening = page[: page.index("Contents")]
    assert "poses: 440 images of 2 classes, 100 of them in the test split." in opening
    assert "Code and parameters of commit 0123456 with uncommitted changes." in opening
    assert "The machine was busy while costs of a were measured." in opening
    assert "Next: label new images with it: python -m stages.predict FOLDER" in opening
    assert "preset" not in opening


def test_a_quick_comparison_says_what_it_left_out_and_how_to_get_the_rest(tmp_path: Path) -> None:
    found = text(material.page(tmp_path, contest({"a": (), "b": range(30)}), setting=Setting("poses", "quick")))
    verdict, warning = (
        found.index("Without fine-tuning: Use a:"),
        found.index("Quick run (preset: quick): no network was"),
    )
    assert verdict < warning < found.index("Next: set preset: full in params.yaml and compare in full: dvc repro")


def test_a_tiny_p_value_is_not_written_as_zero(tmp_path: Path) -> None:
    page = text(material.page(tmp_path, contest({"a": (), "b": range(60)})))
    assert "< 0.0001 < 0.0001" in page
    assert "0.0000" not in page


def test_the_whole_page_is_in_the_language_asked_for(tmp_path: Path) -> None:
    spanish = named("es")
    page = material.page(tmp_path, material.evidence(artefacts.nine()), spanish)
    assert '<html lang="es">' in page
    found = text(page)
    english = [
        message for message in (*spanish.messages, *spanish.plurals) if len(message) > 12 and "%(" not in message
    ]
    known = set(spanish.messages.values())
    assert [message for message in english if message in found and message not in known] == []
    label = html.unescape(re.search(r'data-figure="accuracy" role="img" aria-label="([^"]+)"', page)[1])
    assert label in known
