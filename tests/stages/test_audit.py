"""Stage audit shows everything that was planted in a small collection, by name, on one page that needs no network."""

import logging
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

from stages import audit
from stages.core import files, params
from stages.core.errors import DataError
from tests.report.test_page import Reader, text
from tests.support.collection import FINE, Collection, image, retouched

PARAMS = """\
data: {{near_duplicates: 16}}
audit:
  folds: 5
  thumbnails: {thumbnails}
  outliers: {{dark: 0.32, light: 0.05, blurry: 0.29, low_information: 0.3, odd_aspect_ratio: 0.35}}
"""
HOSTILE = ("cat/<script>alert(1)</script>.png", 'cat/"quo\'ted".png', "cat/שלום 👩.png", "cat/{{ 7 * 7 }}.png")
PAGE = Path("data/report/audit.html")
OUTPUTS = (Path("data/audit.json"), Path("data/suspects.csv"), PAGE)


def configure(thumbnails: int = 60, backbones: tuple[str, ...] = ("vgg16",)) -> None:
    Path("params.yaml").write_text(PARAMS.format(thumbnails=thumbnails))
    files.write_json(Path("data/recipes/names.json"), {"backbones": [*backbones, "scratch"]})
    params.read.cache_clear()


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    """Forty good images of two classes, in a project with a probe of one backbone."""
    monkeypatch.chdir(tmp_path)
    configure()
    found = Collection(tmp_path)
    for number in range(40):
        label = ("cat", "dog")[number % 2]
        found.add(f"{label}/{number}.png", label, image(number), ("train", "train", "train", "test")[number // 2 % 4])
    yield found
    params.read.cache_clear()


def run(collection: Collection, truth: dict[str, str] | None = None, weights: str = "imagenet") -> str:
    """Run the stage and return the page."""
    collection.probe("vgg16", collection.certain(truth), weights=weights)
    collection.probe("scratch", collection.certain()[:0], frozen=False, images=0, accuracy=None, weights="none")
    collection.write()
    audit.main()
    return PAGE.read_text(encoding="utf-8")


def plant(collection: Collection) -> dict[str, str]:
    """Put everything into the collection that the audit looks for; return the classes of two wrong labels."""
    collection.add("cat/exact.png", "cat", image(0))
    collection.add("dog/near.png", "dog", retouched(image(2)))
    collection.add("dog/dark.png", "dog", image(50), dark=0.1)
    collection.add("dog/narrow.png", "dog", image(51, (96, 24)), odd_aspect_ratio=0.25)
    collection.add("dog/leak a.png", "dog", image(52), source_split="train")
    collection.add("dog/leak b.png", "dog", image(52), source_split="test")
    collection.actions = {"dog/leak a.png": "moved to test", "dog/leak b.png": "kept"}
    collection.quarantine("cat", "cat/both.png", image(60), "g")
    collection.quarantine("dog", "dog/both.png", image(60), "g")
    collection.rejects.append(("fox/cut.png", "fox", "broken: the PNG stops"))
    return {"cat/4.png": "dog", "dog/7.png": "cat"}


@pytest.mark.parametrize("kinds", [("balanced", "balanced"), ("balanced", "none"), ("none", "none")])
def test_balanced_class_weights_are_advised_unless_every_backbone_has_them(
    collection: Collection, kinds: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(200):
        collection.add(f"cat/more {number}.png", "cat", image(100 + number))
    probe = collection.probe
    by_name = dict(zip(("vgg16", "scratch"), kinds, strict=True))
    collection.probe = lambda name, *found, **facts: probe(name, *found, class_weight=by_name[name], **facts)  # type: ignore[method-assign]
    caplog.set_level(logging.INFO)
    run(collection)
    (said,) = [message for message in caplog.messages if "times the images of the smallest" in message]
    assert ("class_weight" in said) is (set(kinds) != {"balanced"})


def test_everything_planted_is_on_the_page_by_its_path(collection: Collection) -> None:
    found = text(run(collection, plant(collection)))
    for path in (
        "cat/exact.png", "dog/near.png", "dog/dark.png", "dog/narrow.png", "dog/leak a.png", "dog/leak b.png",
        "cat/both.png", "dog/both.png", "fox/cut.png", "cat/4.png", "dog/7.png",
    ):  # fmt: skip
        assert path in found
    assert "moved to test" in found
    assert "broken: the PNG stops" in found
    assert "cat → dog" in found
    assert "dog → cat" in found


def test_the_first_sentence_says_what_is_wrong_and_what_to_do_first(collection: Collection) -> None:
    found = text(run(collection, plant(collection)))
    verdict = "things to look at in 46 images of 2 classes. First: 1 image has two labels; all 2 files are"
    assert verdict in found
    assert "decide which label is right and remove the other files." in found


def test_each_entry_of_the_first_screen_ends_with_a_line_to_paste_or_with_nothing_to_do(collection: Collection) -> None:
    collection.rejects += [("README.txt", "", "no class: lies in no class folder"), (".git/", "", "hidden: a dot")]
    header = run(collection, plant(collection)).partition("<main>")[0]
    entries = re.findall(r"<li>(.*?)</li>", header, flags=re.DOTALL)
    assert len(entries) == 7
    assert all(re.search(r">(  exclude: \[|dvc )[^<]+</pre>$", entry) for entry in entries)
    settled = re.findall(r'<p class="quiet settled">(.*?)</p>', header)
    assert len(settled) == 2
    assert all(entry.endswith("nothing to do.") for entry in settled)
    assert settled[1].startswith("2 files are no images;")
    assert header.rindex("</li>") < header.index('class="quiet settled"')


def test_what_was_not_found_is_one_line_without_sections(collection: Collection) -> None:
    html = run(collection)
    absent = (
        "files to leave out, images with two labels, exact copies, near copies, copies across the source&#39;s split"
    )
    assert f"Looked for and not found: {absent}, odd images, doubtful labels." in html
    headings = re.findall(r'<h2 id="([^"]+)"', html)
    assert headings == ["classes", "sizes", "leaving-out"]


def placeholder(number: int) -> Image.Image:
    """Return what a web host serves for a missing image, as it arrives: compressed each time anew."""
    picture = Image.new("RGB", (200, 160), (242, 242, 242))
    drawing = ImageDraw.Draw(picture)
    drawing.rectangle((70, 30, 130, 80), outline=(120, 120, 120), width=4)
    drawing.text((18, 110), "This image could not be found", fill=(90, 90, 90))
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=60 + 10 * number)
    return Image.open(stream).convert("RGB")


def test_placeholders_of_a_web_host_among_several_classes_come_first(
    collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    collection.add("cat/exact.png", "cat", image(0))
    for number, label in enumerate(("cat", "dog", "cat")):
        collection.add(f"{label}/missing {number}.jpg", label, placeholder(number), "test")
    html = run(collection)
    assert caplog.messages[0].startswith("1 group of near copies with two labels; check each")
    first = re.findall(r"<li>(.*?)</li>", html, flags=re.DOTALL)[0]
    for path in ("cat/missing 0.jpg", "dog/missing 1.jpg", "cat/missing 2.jpg"):
        assert path in first


def test_good_images_get_a_clean_bill(collection: Collection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = text(run(collection))
    assert "Nothing to do: no problem found in 40 images of 2 classes." in found
    assert caplog.messages == ["40 images audited; data/report/audit.html"]
    assert files.read_csv(Path("data/suspects.csv")).empty


def test_what_is_wrong_is_logged(collection: Collection, caplog: pytest.LogCaptureFixture) -> None:
    run(collection, plant(collection))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[0].startswith("1 image has two labels")
    assert any("1 class has no usable image left: fox" in warning for warning in warnings)


def test_doubtful_labels_are_listed_the_most_doubtful_first(collection: Collection) -> None:
    truth = plant(collection)
    run(collection, truth)
    table = files.read_csv(Path("data/suspects.csv"), text=("path", "label", "suggested"))
    assert set(table["path"][:2]) == set(truth)
    assert files.read_json(Path("data/audit.json"))["suspects"] == {
        "accuracy_of_probes": {"vgg16": 0.9},
        "images": len(table),
        "test": (table["split"] == "test").sum(),
        "share": pytest.approx(len(table) / 46),
        "weights": "imagenet",
    }


def test_a_line_to_paste_leaves_out_what_is_doubtful(collection: Collection) -> None:
    collection.rejects.append(("cat/gone.png", "cat", "excluded: data.exclude names 'cat/gone.png'"))
    html = run(collection, plant(collection))
    reader = Reader()
    reader.feed(html)
    pasted = [yaml.safe_load(line) for line in "".join(reader.parts).splitlines() if line.startswith("  exclude: [")]
    assert {"exclude": ["cat/gone.png", "cat/both.png", "dog/both.png"]} in pasted
    assert {"exclude": ["cat/gone.png", "dog/leak a.png"]} in pasted
    assert {"exclude": ["cat/gone.png", "dog/dark.png", "dog/narrow.png"]} in pasted


def test_an_image_that_is_odd_in_two_ways_is_counted_once_and_marked(collection: Collection) -> None:
    collection.add("dog/dark.png", "dog", image(50), dark=0.1, blurry=0.1)
    html = run(collection)
    assert files.read_json(Path("data/audit.json"))["outliers"]["images"] == 1
    assert "Odd images: 1 dark, 1 blurred" in html
    assert '<a class="card bad" href="#outliers"><b>1</b> odd images</a>' in html
    assert '<h2 id="outliers">Odd images <span class="count">1</span></h2>' in html


def test_what_is_common_among_the_images_is_not_suggested_for_exclusion(collection: Collection) -> None:
    for number in range(10):
        collection.add(f"dog/blurred {number}.png", "dog", image(50 + number), blurry=0.01 * number)
    collection.add("dog/dark.png", "dog", image(70), dark=0.1, blurry=0.2)
    html = run(collection)
    assert "Odd images: 1 dark" in html
    assert "exclude: [&#34;dog/dark.png&#34;]" in html
    assert "Many of the 51 images are odd in the same way: 11 blurred" in html
    assert "if that is how these images are, there is nothing to do" in html


def test_the_table_of_classes_counts_the_groups_of_each_split_where_the_source_names_them(
    collection: Collection,
) -> None:
    assert '<th scope="row">groups</th>' not in run(collection)
    for number, row in enumerate(collection.rows):
        # As the splits go: of every eight images the first six are for training.
        row["source_group"] = f"patient {number // 2}"
    assert '<th scope="row">groups</th><td>15</td><td>0</td><td>5</td><td>20</td>' in run(collection)
    assert files.read_json(Path("data/audit.json"))["groups"] == {"dropped": 0, "test": 5, "train": 15, "validation": 0}


def test_a_line_to_paste_is_read_back_as_the_paths_that_it_names(collection: Collection) -> None:
    names = (
        "\x7f",
        "\x80",
        "\x85",
        "\x9f",
        "\xa0",
        "\u2028",
        "\u2029",
        "\ufeff",
        "\ufffe",
        "\uffff",
        "\U0001f600",
        "\\x",
        '"',
    )
    paths = [f"cat/a{name}b.png" for name in names]
    for number, path in enumerate(paths):
        # Few of each kind: what is common is not suggested for exclusion.
        collection.add(path, "cat", image(100 + number), **{list(FINE)[number // 3]: 0.001 * number})
    configure(thumbnails=len(paths))
    html = run(collection)
    reader = Reader()
    reader.feed(html)
    (line,) = (line for line in "".join(reader.parts).split("\n") if line.startswith("  exclude: ["))
    assert yaml.safe_load(line) == {"exclude": paths[:10]}


def test_a_test_image_whose_label_is_doubted_is_marked_and_in_no_line_to_paste(collection: Collection) -> None:
    # Of every eight images the last two are for testing.
    truth = {"cat/4.png": "dog", "dog/7.png": "cat"}
    html = run(collection, truth)
    found = text(html)
    assert "In the test split: 1" in found
    assert found.index("cat/4.png") < found.index("In the test split") < found.index("dog/7.png", found.index("In the"))
    assert 'exclude: ["cat/4.png"]' in found
    assert "Leave no test image out because a backbone doubts it" in found


def test_what_random_weights_doubt_is_not_shown(collection: Collection) -> None:
    found = text(run(collection, plant(collection), weights="random"))
    assert "No label was checked: networks with random weights doubt too many correct labels." in found
    assert "cat → dog" not in found
    assert files.read_csv(Path("data/suspects.csv")).empty
    assert files.read_json(Path("data/audit.json"))["suspects"] == {
        "accuracy_of_probes": {},
        "images": 0,
        "test": 0,
        "share": None,
        "weights": "random",
    }


def test_leaks_of_a_split_that_is_not_used_need_nothing_done(
    collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    plant(collection)
    collection.actions = dict.fromkeys(collection.actions, "split again")
    found = text(run(collection))
    assert "These numbers do not use its split (split.use_folders), and here all copies are in one split" in found
    assert not any("source's own split" in message for message in caplog.messages)


def test_leaks_that_no_test_image_of_the_source_has_need_nothing_done(
    collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    plant(collection)
    for row in collection.rows:
        row["source_split"] = row["source_split"].replace("test", "validation")
    found = text(run(collection))
    assert "but not in its test split. Here each copy was moved to one split, or dropped, as stated" in found
    assert "so the numbers stand: nothing to do" in found


def test_without_any_frozen_backbone_no_label_is_judged(collection: Collection) -> None:
    configure(backbones=("other",))
    collection.probe("other", collection.certain()[:0], frozen=False, images=0, accuracy=None, weights="none")
    found = text(run(collection))
    assert "No label was checked" in found
    assert files.read_json(Path("data/audit.json"))["suspects"]["share"] is None


def test_the_predictions_of_several_backbones_are_averaged(collection: Collection) -> None:
    configure(backbones=("resnet50", "vgg16"))
    truth = {"cat/4.png": "dog", "dog/7.png": "cat"}
    one, other = collection.certain(truth), collection.certain(truth)
    file = next(row["file"] for row in collection.rows if row["path"] == "cat/4.png")
    other.loc[other["file"] == file, ["p:cat", "p:dog"]] = (0.01, 0.99)
    collection.probe("resnet50", other)
    run(collection, truth)
    table = files.read_csv(Path("data/suspects.csv"))
    assert table["path"].tolist() == ["cat/4.png", "dog/7.png"]
    alone = float(one.loc[one["file"] == file, "p:cat"].iloc[0])
    assert table["p_label"].iloc[0] == pytest.approx((alone + 0.01) / 2)
    numbers = files.read_json(Path("data/audit.json"))
    assert set(numbers["suspects"]["accuracy_of_probes"]) == {"vgg16", "resnet50"}


def test_probes_of_other_images_are_an_error(collection: Collection) -> None:
    configure(backbones=("resnet50", "vgg16"))
    collection.probe("resnet50", collection.certain()[1:])
    with pytest.raises(DataError, match="the probe of 'vgg16' predicts other images or classes than that of 'resnet"):
        run(collection)


def test_a_probe_that_is_missing_is_named(collection: Collection) -> None:
    configure(backbones=("resnet50", "vgg16"))
    with pytest.raises(DataError, match=r"no data/probes/resnet50/probe.json; .* run 'dvc repro'"):
        run(collection)


def test_a_long_sheet_is_cut_and_says_so(collection: Collection) -> None:
    configure(thumbnails=3)
    for number in range(8):
        collection.add(f"dog/dark {number}.png", "dog", image(100 + number), dark=0.01 * number)
    html = run(collection)
    assert "And 5 more, see data/manifest.csv." in text(html)
    assert "dog/dark 2.png" in html
    assert "dog/dark 3.png" not in html


def test_the_page_fetches_nothing_and_runs_nothing(collection: Collection) -> None:
    html = run(collection, plant(collection))
    reader = Reader()
    reader.feed(html)
    assert not {"script", "link", "iframe", "object"} & reader.tags
    assert all(reference.startswith(("#", "data:image/webp;base64,")) for reference in reader.fetched)
    assert not re.search(r"url\((?!#)|@import", html)
    assert "default-src 'none'" in html
    targets = {reference for reference in reader.fetched if reference.startswith("#") and not reference[1:2].isdigit()}
    assert {"#conflicts", "#suspects"} <= targets
    assert all(f'id="{target[1:]}"' in html for target in targets)


def test_hostile_names_are_shown_as_text(collection: Collection) -> None:
    for number, path in enumerate(HOSTILE):
        collection.add(path, "cat", image(200 + number), dark=0.1)
    collection.rejects += [(path, "cat", f"broken: '{path}'") for path in HOSTILE]
    collection.add("x", "<b>&\"'", image(300))
    collection.add("y", "<b>&\"'", image(301))
    html = run(collection)
    reader = Reader()
    reader.feed(html)
    assert "script" not in reader.tags
    shown = "".join(reader.parts)
    for name in (*HOSTILE, "<b>&\"'"):
        assert name in shown


def test_two_runs_write_the_same_bytes(collection: Collection) -> None:
    truth = plant(collection)
    run(collection, truth)
    first = [path.read_bytes() for path in OUTPUTS]
    run(collection, truth)
    assert [path.read_bytes() for path in OUTPUTS] == first


def test_a_image_that_is_gone_says_which_command_brings_it_back(collection: Collection) -> None:
    plant(collection)
    file = next(row["file"] for row in collection.rows if row["path"] == "dog/dark.png")
    (Path("data/raw") / file).unlink()
    with pytest.raises(DataError, match=r"cannot be read .*; run: dvc repro -f ingest"):
        run(collection)
    assert not PAGE.exists()
