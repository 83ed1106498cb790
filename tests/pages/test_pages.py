"""The pages in Chromium: they ask no network for anything, answer to pointer and keys, and everybody can read them."""

import configparser
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc_render.html import render_html
from dvc_render.vega import VegaRenderer

from stages.pages.catalogues import named
from stages.report.opening import Setting
from stages.report.runs import Run, ranked
from tests.stages.test_audit import PAGE as AUDIT
from tests.stages.test_audit import configure
from tests.stages.test_audit import run as run_audit
from tests.support import artefacts, material
from tests.support.browser import Browser, Page
from tests.support.collection import Collection, image
from tests.support.contest import TWO
from tests.support.contest import evidence as contest

ROOT = Path(__file__).parents[2]
# Where .ci/run puts it.
AXE = ROOT / ".cache/npm/node_modules/axe-core/axe.min.js"
# Impacts by which axe-core says that somebody cannot use a page.
GRAVE = {"serious", "critical"}
EVIL = (
    "<script>window.run = 1</script>", "</script><script>window.run = 2</script>", "${window.run = 3}", "\"quo'ted",
    "<img src=x onerror='window.run = 4'>", "שלום", "👩‍🚀 猫", "x" * 200,
)  # fmt: skip

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about nine backbones."""
    root = tmp_path_factory.mktemp("nine")
    return written(root, material.page(root, material.evidence(artefacts.nine())))


def written(root: Path, page: str) -> Path:
    path = root / "comparison.html"
    path.write_text(page, encoding="utf-8")
    return path


def opened(browser: Browser, file: Path, **options: Any) -> Page:
    """Return the page when its figures have been drawn anew."""
    page = Page(browser, file, **options)
    page.wait(lambda: bool(page.evaluate("document.documentElement.classList.contains('drawn')") or page.complaints()))
    return page


def answers(actual: list[str], predicted: list[str], classes: tuple[str, ...], backbone: str = "a") -> Run:
    return artefacts.run(backbone, artefacts.answers(actual, predicted, classes), classes)


def two_classes() -> list[Run]:
    return list(contest({"a": range(10), "b": range(5, 30)}).runs)


def one_backbone() -> list[Run]:
    return artefacts.nine()[:1]


def two_hundred_classes() -> list[Run]:
    classes = tuple(f"species {number}" for number in range(200))
    actual = [name for name in classes for _ in range(2)]
    return [answers(actual, [*actual[1:], actual[0]], classes, "a"), answers(actual, actual, classes, "b")]


def absent_class() -> list[Run]:
    return [answers(["cat", "dog"] * 9, ["cat", "fox"] * 9, ("cat", "dog", "fox"))]


def constant_and_perfect() -> list[Run]:
    actual = ["cat", "dog"] * 20
    return [answers(actual, actual, TWO, "perfect"), answers(actual, ["cat"] * 40, TWO, "constant")]


def hostile() -> list[Run]:
    actual = list(EVIL) * 3
    return [answers(actual, [*actual[:20], *[EVIL[0]] * 4], EVIL, name) for name in EVIL]


@pytest.mark.parametrize(
    "make", [two_classes, one_backbone, two_hundred_classes, absent_class, constant_and_perfect, hostile]
)
def test_a_page_about_anything_is_drawn_without_a_request_or_an_error(
    make: Any, browser: Browser, tmp_path: Path
) -> None:
    file = written(tmp_path, material.page(tmp_path, material.evidence(make())))
    for width in (1200, 400):
        page = opened(browser, file, width=width)
        assert page.requests() == []
        assert page.complaints() == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("window.run") is None


@pytest.mark.parametrize("options", [{}, {"scheme": "dark"}, {"width": 400}, {"scripts": False}])
def test_the_page_about_nine_backbones_makes_no_request_and_no_error(
    options: dict[str, Any], browser: Browser, nine: Path
) -> None:
    page = Page(browser, nine, **options) if options.get("scripts") is False else opened(browser, nine, **options)
    assert page.requests() == []
    assert page.complaints() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= options.get("width", 1200)
    # Every figure is there and has a size, drawn by the page's script or brought along.
    sizes = "Array.from(document.querySelectorAll('.figure > svg'), svg => svg.getBoundingClientRect().height)"
    heights = page.evaluate(sizes)
    assert len(heights) == len(re.findall('data-figure="', nine.read_text(encoding="utf-8")))
    assert min(heights) > 80


def several_classes(count: int) -> list[Run]:
    classes = tuple(f"a class named {number}" for number in range(count))
    actual = [name for name in classes for _ in range(3)]
    return [answers(actual, [*actual[2:], *actual[:2]], classes, name) for name in "ab"]


@pytest.mark.parametrize("count", [12, 20, 40])
def test_many_classes_fit_into_their_confusion_or_scroll_in_its_own_box(
    count: int, browser: Browser, tmp_path: Path
) -> None:
    file = written(tmp_path, material.page(tmp_path, material.evidence(several_classes(count))))
    boxes = (
        "Array.from(document.querySelector('#confusion').closest('section').querySelectorAll('.scroll'),"
        " box => [box.scrollWidth, box.clientWidth, getComputedStyle(box).overflowX])"
    )
    wide, narrow = (opened(browser, file, width=width) for width in (1280, 390))
    assert all(inner <= outer for inner, outer, _ in wide.evaluate(boxes))
    assert all(overflow == "auto" for _, _, overflow in narrow.evaluate(boxes))
    for page, width in ((wide, 1280), (narrow, 390)):
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_the_first_screen_holds_verdict_setting_figures_and_next_command(
    width: int, browser: Browser, tmp_path: Path
) -> None:
    found = contest({"large": range(10), "small": range(12), "x": range(40)})
    page = opened(
        browser, written(tmp_path, material.page(tmp_path, found, setting=Setting("poses", "quick"))), width=width
    )
    bottoms = [
        page.evaluate(f"document.querySelector('{part}').getBoundingClientRect().bottom")
        for part in (".about", ".verdict", "header .banner", ".facts", ".step")
    ]
    assert bottoms == sorted(bottoms)
    assert bottoms[-1] <= 800


def test_a_link_to_a_word_opens_the_glossary(browser: Browser, nine: Path) -> None:
    page = opened(browser, nine)
    assert not page.evaluate("document.querySelector('.glossary').checkVisibility()")
    page.evaluate("document.querySelector('a.term').click()")
    page.wait(lambda: bool(page.evaluate("document.querySelector('.glossary').checkVisibility()")))


def test_figures_are_as_wide_as_there_is_room(browser: Browser, nine: Path) -> None:
    width = "document.querySelector('[data-figure=embedding] svg').getBoundingClientRect().width"
    wide, narrow = (opened(browser, nine, width=room).evaluate(width) for room in (1200, 400))
    assert 1000 < wide <= 1200
    assert 300 < narrow <= 400


def test_a_table_is_sorted_by_the_keyboard(browser: Browser, nine: Path) -> None:
    page = opened(browser, nine)
    page.evaluate("document.querySelector('#ranking').closest('section').querySelectorAll('th button')[2].focus()")
    assert page.evaluate("document.activeElement.textContent") == "accuracy"
    column = (
        "Array.from(document.querySelector('#ranking').closest('section').querySelector('tbody').rows,"
        " row => row.cells[0].textContent).join('')"
    )
    page.press("Enter")
    assert page.evaluate(column) == "123456789"
    page.press("Enter")
    assert page.evaluate(column) == "987654321"
    assert page.evaluate("document.activeElement.parentElement.getAttribute('aria-sort')") == "ascending"
    page.press("Tab")
    page.press("Tab")
    page.press(" ")
    assert page.evaluate("document.activeElement.parentElement.getAttribute('aria-sort')") == "descending"
    assert page.evaluate("document.querySelectorAll('[aria-sort]').length") == 1


def test_backbones_that_are_not_ticked_leave_tables_sheets_and_figures(browser: Browser, nine: Path) -> None:
    page = opened(browser, nine)
    points = "document.querySelectorAll('[data-figure=cost-size] [aria-roledescription=circle]').length"
    front = "document.querySelector('[data-figure=cost-size] .mark-line path').getAttribute('d')"
    assert page.evaluate(points) == 9
    before = page.evaluate(front)
    page.evaluate("document.querySelectorAll('.tools summary')[1].focus()")
    for key in ("Enter", "Tab", " "):
        page.press(key)
    page.wait(lambda: page.evaluate(points) == 8)
    # What the best-scoring one had kept off the front is on it now.
    assert page.evaluate(front) != before
    shown = "Array.from(document.querySelectorAll('[data-place=\"{}\"]')).filter(part => part.offsetParent).length"
    assert page.evaluate(shown.format(1)) == 0
    assert page.evaluate(shown.format(2)) > 9
    page.evaluate("document.querySelector('#chooser button[value=all]').click()")
    page.wait(lambda: page.evaluate(points) == 9)
    assert page.evaluate(front) == before
    assert page.complaints() == []


def test_a_point_under_the_pointer_says_its_name_and_shows_its_image(browser: Browser, nine: Path) -> None:
    page = opened(browser, nine)
    seen = "document.getElementById('vg-tooltip-element')?.textContent ?? ''"
    best = ranked(artefacts.nine(), artefacts.MEASURE)[0].backbone
    page.point("[data-figure=accuracy] [aria-roledescription=circle]")
    page.wait(lambda: best in page.evaluate(seen))
    page.point("[data-figure=embedding] [aria-roledescription=point]")
    page.wait(lambda: "predicted" in page.evaluate(seen))
    assert page.evaluate("document.querySelector('#vg-tooltip-element img').complete")
    assert page.evaluate("document.querySelector('#vg-tooltip-element img').naturalWidth") > 0
    assert page.requests() == []


def test_hostile_names_stay_text_under_the_pointer_too(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, written(tmp_path, material.page(tmp_path, material.evidence(hostile()))))
    seen = "document.getElementById('vg-tooltip-element')?.textContent ?? ''"
    for number, run in enumerate(ranked(hostile(), artefacts.MEASURE)):
        page.point("[data-figure=accuracy] [aria-roledescription=circle]", number)
        page.wait(lambda name=run.backbone: name in page.evaluate(seen))
    assert page.evaluate("window.run") is None
    assert page.evaluate("document.querySelectorAll('#vg-tooltip-element script, #vg-tooltip-element img').length") == 0
    assert page.complaints() == []


def test_the_contents_close_when_something_else_is_looked_at(browser: Browser, nine: Path) -> None:
    page = opened(browser, nine)
    panel = "document.querySelector('.tools details').open"
    page.evaluate("document.querySelector('.tools summary').focus()")
    page.press("Enter")
    assert page.evaluate(panel)
    page.press("Escape")
    assert not page.evaluate(panel)
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_colours_follow_the_scheme(browser: Browser, nine: Path) -> None:
    page = opened(browser, nine)
    colours = (
        "[document.body, document.querySelector('[data-figure=accuracy] text'),"
        " document.querySelector('[data-figure=accuracy] [aria-roledescription=circle]')]"
        ".map(part => getComputedStyle(part)[part === document.body ? 'backgroundColor' : 'fill'])"
    )
    light = page.evaluate(colours)
    page.emulate("dark")
    dark = page.evaluate(colours)
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_printed_it_has_all_that_is_folded_and_nothing_to_click(browser: Browser, nine: Path) -> None:
    page = opened(browser, nine, width=700)
    sheet = "document.querySelectorAll('details.sheets')[4].getBoundingClientRect().height"
    folded = page.evaluate(sheet)
    page.emulate("light", "print")
    assert page.evaluate(sheet) > 3 * folded
    assert page.evaluate("document.querySelector('.tools').getBoundingClientRect().height") == 0
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert 5 < len(re.findall(rb"/Type\s*/Page\b", printed)) < 30


def violations(page: Page) -> list[str]:
    """Return what axe-core finds that keeps somebody from using the page, with everything unfolded."""
    page.call("Emulation.setScriptExecutionDisabled", value=False)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.evaluate(AXE.read_text(encoding="utf-8") + ";null")
    found = json.loads(page.evaluate("axe.run().then(result => JSON.stringify(result.violations))"))
    return [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in found if rule["impact"] in GRAVE]


@pytest.mark.axe
@pytest.mark.parametrize("options", [{}, {"scheme": "dark"}, {"width": 400}, {"scripts": False}])
def test_axe_core_finds_nothing_grave(options: dict[str, Any], browser: Browser, nine: Path) -> None:
    page = Page(browser, nine, **options) if options.get("scripts") is False else opened(browser, nine, **options)
    assert violations(page) == []


@pytest.mark.axe
@pytest.mark.parametrize("make", [one_backbone, two_hundred_classes, constant_and_perfect, hostile])
def test_axe_core_finds_nothing_grave_in_other_pages_and_in_spanish(
    make: Any, browser: Browser, tmp_path: Path
) -> None:
    page = material.page(tmp_path, material.evidence(make()), named("es"))
    assert violations(opened(browser, written(tmp_path, page))) == []


@pytest.fixture
def audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The audit's page about a few images, one of them with a hostile name."""
    monkeypatch.chdir(tmp_path)
    configure()
    found = Collection(tmp_path)
    for number in range(12):
        found.add(f"cat/{number}.png", ("cat", EVIL[0])[number % 2], image(number))
    found.add(f"cat/{EVIL[4]}.png", "cat", image(0))
    run_audit(found)
    return tmp_path / AUDIT


@pytest.mark.parametrize("width", [1200, 400])
def test_the_audit_asks_no_network_for_anything_and_fits(width: int, browser: Browser, audited: Path) -> None:
    page = Page(browser, audited, width=width)
    assert page.requests() == []
    assert page.complaints() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelectorAll('.figure > svg').length") == 2


def test_plots_of_dvc_say_without_internet_where_the_figures_are(browser: Browser, tmp_path: Path) -> None:
    config = configparser.ConfigParser()
    config.read_string(re.sub(r"(?m)^\s+", "", (ROOT / ".dvc/config").read_text(encoding="utf-8")))
    renderer = VegaRenderer([{"x": 1, "y": 2}], "plot", x="x", y="y")
    render_html([renderer], tmp_path / "index.html", html_template=ROOT / ".dvc" / config["plots"]["html_template"])
    page = Page(browser, tmp_path / "index.html")
    # Without internet access the browser of the tests knows no host at all.
    requests = page.requests()
    assert requests
    assert all(address.startswith("https://cdn.jsdelivr.net/") for address in requests)
    assert "data/report/comparison.html has the same figures" in page.evaluate("document.body.innerText")


@pytest.mark.axe
@pytest.mark.parametrize("options", [{}, {"scheme": "dark"}, {"width": 400}])
def test_axe_core_finds_nothing_grave_in_the_audit(options: dict[str, Any], browser: Browser, audited: Path) -> None:
    assert violations(Page(browser, audited, **options)) == []
