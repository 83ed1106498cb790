"""Every text of the report has its translation, and numbers, lists and names are written as a language has them."""

import re
from typing import get_args

import pytest

from stages.core.settings.report import ReportParams
from stages.pages import catalogues, templates
from stages.pages.language import ENGLISH, UNKNOWN, Language, Name, Names
from tests.support.texts import ROOT, texts

SPANISH = catalogues.named("es")
CATALOGUE = (ROOT / "stages/pages/es.po").read_text(encoding="utf-8")
MESSAGES, PLURALS = catalogues.read(CATALOGUE)
PLACE = re.compile(r"%\((\w+)\)s")
MINUS, SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def places(text: str) -> list[str]:
    """Return the places of values in a text, and fail for a percent sign that is none."""
    assert "%" not in PLACE.sub("", text).replace("%%", "")
    return sorted(PLACE.findall(text))


# Catalogues ---------------------------------------------------------------------------------------------


def test_every_text_is_translated_and_nothing_else() -> None:
    assert {text for text in texts() if len(text) == 1} == {(message,) for message in MESSAGES if message}
    assert {text[0] for text in texts() if len(text) > 1} == set(PLURALS)


def test_texts_of_code_and_of_templates_are_found() -> None:
    assert {("Backbone comparison",), ("All parameters have their default values.",)} <= texts()
    assert ("%(count)s file left out", "%(count)s files left out") in texts()


@pytest.mark.parametrize("message", [message for message in MESSAGES if message])
def test_a_translation_has_the_places_of_its_text(message: str) -> None:
    translation = MESSAGES[message]
    assert translation
    assert set(places(translation)) == set(places(message))
    # A sentence ends as one, and a part of one is none.
    assert translation[-1] in {message[-1], "."} if message[-1] in ".:" else translation[-1] not in ".:"


@pytest.mark.parametrize("message", PLURALS)
def test_both_numbers_of_a_plural_have_the_places_of_their_text(message: str) -> None:
    several = dict(text for text in texts() if len(text) == 2)[message]
    for text, translation in zip((message, several), PLURALS[message], strict=True):
        assert set(places(translation)) <= set(places(several)) | set(places(message))
        assert set(places(text)) - {"count", "next"} <= set(places(translation))


def test_the_catalogue_of_spanish_counts_as_english_does_and_leaves_nothing_for_later() -> None:
    assert "Plural-Forms: nplurals=2; plural=(n != 1);\n" in MESSAGES[""]
    assert "fuzzy" not in CATALOGUE
    entries = [line for line in CATALOGUE.splitlines() if line.startswith("msgid ")]
    assert len(set(entries)) == len(entries)


def test_the_languages_are_those_that_the_parameters_allow() -> None:
    codes = get_args(ReportParams.model_fields["language"].annotation)
    assert [catalogues.named(code).code for code in codes] == list(codes) == ["en", "es"]


def test_strings_of_a_catalogue_may_go_over_lines_and_hold_quotes() -> None:
    messages, plurals = catalogues.read(
        '# A comment.\nmsgid ""\nmsgstr ""\n"Language: xx\\n"\n'
        '\n#. For whom.\nmsgid "a \\"b\\""\nmsgstr ""\n"A "\n"«b»"\n'
        '\nmsgid "one"\nmsgid_plural "several"\nmsgstr[0] "uno"\nmsgstr[1] "varios"'
    )
    assert messages == {"": "Language: xx\n", 'a "b"': "A «b»"}
    assert plurals == {"one": ("uno", "varios")}


def test_a_line_of_a_catalogue_that_is_no_string_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^line 2 of a catalogue is no string: msgstr unquoted$"):
        catalogues.read('msgid "a"\nmsgstr unquoted')


def test_what_no_catalogue_has_stays_english() -> None:
    assert str(SPANISH.say("not %(what)s", what="there")) == "not there"
    assert str(Language("xx").say_plural("%(count)s thing", "%(count)s things", 2)) == "2 things"


# Numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "english", "spanish"),
    [
        (None, UNKNOWN, UNKNOWN),
        (0, "0.00", "0,00"),
        (0.01234, "0.0123", "0,0123"),
        (3.2149, "3.21", "3,21"),
        (22.04, "22.0", "22,0"),
        (1234.5, "1,234", "1234"),
        (12345.6, "12,346", f"12{SPACE}346"),
    ],
)
def test_measured_numbers_have_three_significant_digits(value: float | None, english: str, spanish: str) -> None:
    assert (ENGLISH.figures(value), SPANISH.figures(value)) == (english, spanish)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ENGLISH.percent(0.784), "78.4 %"),
        (SPANISH.percent(0.784), "78,4 %"),
        (ENGLISH.percent(None), UNKNOWN),
        (ENGLISH.share(0.95), "95 %"),
        (ENGLISH.share(0.07), "7 %"),
        (SPANISH.share(0.995), "99,5 %"),
        (SPANISH.millions(22_900_000), "22,9 M"),
        (ENGLISH.millions(None), UNKNOWN),
        (ENGLISH.points(-0.0333), f"{MINUS}3.3"),
        # What rounds to nothing has no sign.
        (ENGLISH.points(-0.0004), "0.0"),
        (SPANISH.number(0.0951, 3), "0,095"),
        (ENGLISH.about(24_416), "25,000"),
        (ENGLISH.about(890), "890"),
        (ENGLISH.about(37), "37"),
        (ENGLISH.about(100.5), "110"),
        (SPANISH.about(24_416), "25\N{NO-BREAK SPACE}000"),
        (ENGLISH.factor(9.04), "9"),
        (ENGLISH.factor(2.36), "2.4"),
        (ENGLISH.factor(24.1), "24"),
        (SPANISH.factor(2.36), "2,4"),
        (ENGLISH.p_value(0.0123), "p = 0.012"),
        (SPANISH.p_value(0.0009), "p < 0,001"),
    ],
)
def test_each_kind_of_number_has_its_form(found: str, expected: str) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("count", "english", "spanish"),
    [
        (0, "0 files left out", "0 archivos descartados"),
        (1, "1 file left out", "1 archivo descartado"),
        (2, "2 files left out", "2 archivos descartados"),
        (1500, "1,500 files left out", "1500 archivos descartados"),
    ],
)
def test_one_is_singular_and_all_else_plural(count: int, english: str, spanish: str) -> None:
    texts_of_it = ("%(count)s file left out", "%(count)s files left out", count)
    assert (str(ENGLISH.say_plural(*texts_of_it)), str(SPANISH.say_plural(*texts_of_it))) == (english, spanish)


# Lists and names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "english", "spanish"),
    [
        (("a",), "a", "a"),
        (("a", "b"), "a and b", "a y b"),
        (("a", "b", "c"), "a, b and c", "a, b y c"),
        # "y" becomes "e" before its own sound, not before a diphthong.
        (("vgg16", "inception_v3"), "vgg16 and inception_v3", "vgg16 e inception_v3"),
        (("agua", "hilo"), "agua and hilo", "agua e hilo"),
        (("agua", "hielo"), "agua and hielo", "agua y hielo"),
    ],
)
def test_names_are_listed_as_the_language_does(names: tuple[str, ...], english: str, spanish: str) -> None:
    assert str(ENGLISH.say("%(names)s", names=Names(names))) == english
    assert str(SPANISH.say("%(names)s", names=Names(names))) == spanish


EVIL = (
    "<script>alert(1)</script>", "\"quo'ted", "שלום", "👩‍🚀 猫", "x" * 200, "%(points)s %s %%", "a|b`c`\nd",
    "**bold** [link](javascript:alert(1))", "&lt;b&gt;", "{{ 7 * 7 }}", "backbone", "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe",
)  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("language", [ENGLISH, SPANISH], ids=lambda language: language.code)
def test_a_name_in_a_sentence_stays_what_it_is(name: str, language: Language) -> None:
    text = language.say(
        "%(first)s is better than %(second)s by %(points)s points (%(figures)s)",
        first=Name(name),
        second=Name("b"),
        points="<5 & more",
        figures=language.say("standard deviation"),
    )
    assert str(text).startswith(f"{name} ")
    page = templates.html(text)
    assert page.startswith(f"<b><bdi>{templates.escape(name)}</bdi></b> ")
    assert re.findall(r"<[^>]*>", page) == ["<b>", "<bdi>", "</bdi>", "</b>"] * 2
    assert "&lt;5 &amp; more" in page


@pytest.mark.parametrize("name", EVIL)
def test_markdown_shows_a_name_as_code_and_nothing_of_it_as_markup(name: str) -> None:
    # What CommonMark makes of it: one code span, in a sentence and in a table's cell.
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark").enable("table")
    sentence = markdown.render(
        templates.markdown(ENGLISH.say("%(name)s is right on %(score)s.", name=Name(name), score="1"))
    )
    table = markdown.render(f"| a | b |\n|--|--|\n| {templates.code(name)} | end |\n")
    shown = templates.escape(
        re.sub("[\n\N{RIGHT-TO-LEFT OVERRIDE}]", lambda found: {"\n": "\\n"}.get(found[0], "\\u202e"), name)
    )
    for html in (sentence, table):
        assert re.findall(r"<code>(.*?)</code>", html) == [str(shown).replace("&#34;", "&quot;").replace("&#39;", "'")]
        assert not re.search(r"<(script|a|strong|em)\b", html)
    assert table.count("<td") == 2


def test_a_name_from_right_to_left_does_not_turn_the_numbers_beside_it() -> None:
    said = templates.markdown(ENGLISH.say("%(name)s is right on %(score)s.", name=Name("שלום"), score="90 %"))
    assert said == "\N{FIRST STRONG ISOLATE}`שלום`\N{POP DIRECTIONAL ISOLATE} is right on 90 %."
    assert templates.span("猫") == "`猫`"


def test_templates_are_translated_with_their_values_escaped() -> None:
    environment = templates.environment(ROOT / "stages/report", SPANISH)
    source = '{{ gettext("points against %(from_scratch)s", from_scratch=name) }}, {% trans %}backbone{% endtrans %}'
    assert environment.from_string(source).render(name="<b>") == "puntos frente a &lt;b&gt;, red"
