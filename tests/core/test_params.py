"""params.yaml is read as DVC reads it, and every fault in it says what was received, expected, and what to do."""

import datetime as dt
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator
from ruamel.yaml import YAML

from stages.core import params
from stages.core.errors import GroupedUserError, ParameterError
from stages.core.params import Section, Tuple, conflict, load, lookup, merge, nearest, parse, read, shown


class Inner(Section):
    name: Literal["adam", "sgd"]
    rate: float = Field(gt=0, le=1)

    @field_validator("rate")
    @classmethod
    def _not_a_half(cls, value: float) -> float:
        if value == 0.5:
            raise ValueError("anything but a half")
        return value


class Outer(Section):
    count: int = Field(ge=1)
    sizes: Tuple[Annotated[int, Field(ge=32)]] = Field(min_length=1)
    on: bool
    text: str = Field(min_length=1)
    maybe: float | None
    inner: Inner
    free: dict[str, Any]

    @field_validator("inner")
    @classmethod
    def _rate_and_count(cls, value: Inner, info: Any) -> Inner:
        if value.rate == 1 and info.data.get("count") == 1:
            raise conflict("rate", value.rate, "below 1 while count is 1", "raise count")
        return value


VALID: dict[str, Any] = {
    "count": 2,
    "sizes": [96, 224],
    "on": True,
    "text": "a",
    "maybe": None,
    "inner": {"name": "adam", "rate": 0.1},
    "free": {},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "params.yaml"


def faults(value: object) -> list[str]:
    with pytest.raises(GroupedUserError) as caught:
        parse(Outer, value, "outer")
    return [str(fault) for fault in caught.value.faults]


# YAML ---------------------------------------------------------------------------------------------------

SCALARS = """
1e-3 1E5 1e+3 1.5e3 1.e3 1e 1e5x e3 .5 -.5 +.5 .e3 1. +1. -0.0 0 00 -0 +5 -5 010 08 0o7 0o17 0o8 0x1F 0xg 0b11 -0x1
1_000 1_0.5 _1 1__0 1,000 0.1.2 . .. inf .inf -.INF +.inf nan .nan .NaN NAN 1e400 9223372036854775808 12:30:45 1:20
on On off yes YES no y n true True TRUE tRue false False FALSE null Null NULL nULL ~ '' "" 'true' '1' "1e-3" '~'
< =a x-y a:b imagenet
"""


@pytest.mark.parametrize("scalar", SCALARS.split())
def test_a_scalar_is_what_dvc_reads(scalar: str, file: Path) -> None:
    file.write_text(f"key: {scalar}\n")
    ours, dvcs = read(file)["key"], YAML(typ="safe").load(file.read_text())["key"]
    assert type(ours) is type(dvcs)
    assert ours == dvcs or (math.isnan(ours) and math.isnan(dvcs))


def test_an_empty_value_is_null(file: Path) -> None:
    file.write_text("key:\n")
    assert read(file) == {"key": None} == YAML(typ="safe").load(file.read_text())


def test_one_thousandth_may_be_written_as_in_python(file: Path) -> None:
    file.write_text("inner: {name: adam, rate: 1e-3}\n")
    assert load(Inner, "inner", file).rate == 0.001


def test_dates_stay_text_where_dvc_makes_dates_of_them(file: Path) -> None:
    file.write_text("key: 2024-01-01\n")
    assert read(file)["key"] == "2024-01-01"
    assert YAML(typ="safe").load(file.read_text())["key"] == dt.date(2024, 1, 1)


def test_anchors_and_merge_keys_are_read(file: Path) -> None:
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert read(file)["b"] == {"x": 1, "y": 3} == YAML(typ="safe").load(file.read_text())["b"]


def test_a_byte_order_mark_does_not_matter(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert read(file) == {"seed": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", "key 'a' stands twice (line 3); expected each key once in its section; remove one"),
        (b"a: {b: 1, c: 2, b: 3}\n", "key 'b' stands twice (line 1)"),
        (b"a: b\n  c: d\n", "is not YAML: mapping values are not allowed here (line 2); expected valid YAML; fix"),
        (b"a: 1\n\tb: 2\n", "cannot start any token (line 2)"),
        (b"a: [1, 2\n", "is not YAML: expected ',' or ']'"),
        (b"a: *b\n", "is not YAML: found undefined alias 'b' (line 1)"),
        (b"source: {{name}}\n", "is not YAML: a mapping or a list where a key belongs (line 1)"),
        (b"a: !!python/object/apply:os.getcwd []\n", "is not YAML: could not determine a constructor"),
        (b"a: \x00\n", "is not YAML: unacceptable character #x0000"),
        (b"a: " + b"9" * 5000, "is not YAML: Exceeds the limit"),
        (b"a: " + b"[" * 3000, "is not YAML: maximum recursion depth exceeded"),
        ("a: é\n".encode("latin-1"), "cannot be read ('utf-8' codec can't decode byte 0xe9"),
        ("a: 1\n".encode("utf-16"), "expected a UTF-8 file; restore it, for instance from git"),
        (b"", "holds null; expected a mapping of sections; see the README for the sections"),
        (b"- a\n", "holds ['a']; expected a mapping of sections"),
        (b"just text\n", "holds 'just text'; expected a mapping of sections"),
    ],
)
def test_a_file_that_cannot_be_read_says_why_in_one_line(content: bytes, message: str, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(ParameterError) as caught:
        read(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_the_users_fault(file: Path) -> None:
    with pytest.raises(ParameterError, match=r"params.yaml' cannot be read \(.*No such file.*expected a UTF-8 file"):
        read(file)


def test_a_folder_in_its_place_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="cannot be read"):
        read(tmp_path)


# Sections -----------------------------------------------------------------------------------------------


def test_a_valid_section_becomes_its_class_with_tuples_for_lists() -> None:
    section = parse(Outer, VALID, "outer")
    assert section.sizes == (96, 224)
    assert (section.count, section.on, section.maybe, section.inner.rate) == (2, True, None, 0.1)


def test_a_whole_number_is_a_number_but_no_other_type_is_taken_for_another() -> None:
    assert parse(Outer, VALID | {"maybe": 3}, "outer").maybe == 3.0


def test_a_section_is_final() -> None:
    section = parse(Outer, VALID, "outer")
    with pytest.raises(ValidationError, match="frozen"):
        section.count = 3


CASES = [
    ({"count": "2"}, "outer.count = '2'; expected a whole number; correct it"),
    ({"count": 2.0}, "outer.count = 2.0; expected a whole number; correct it"),
    ({"count": True}, "outer.count = true; expected a whole number; correct it"),
    ({"count": None}, "outer.count = null; expected a whole number; correct it"),
    ({"count": 0}, "outer.count = 0; expected at least 1; correct it"),
    ({"count": [1]}, "outer.count = [1]; expected a whole number; correct it"),
    ({"sizes": 96}, "outer.sizes = 96; expected a list; correct it"),
    ({"sizes": []}, "outer.sizes = []; expected at least 1 item; correct it"),
    ({"sizes": [96, "224"]}, "outer.sizes.1 = '224'; expected a whole number; correct it"),
    ({"sizes": ["x"]}, "outer.sizes.0 = 'x'; expected a whole number; correct it"),
    ({"sizes": [16]}, "outer.sizes.0 = 16; expected at least 32; correct it"),
    ({"on": 1}, "outer.on = 1; expected true or false; correct it"),
    ({"on": "yes"}, "outer.on = 'yes'; expected true or false; correct it"),
    ({"text": 3}, "outer.text = 3; expected text; correct it"),
    ({"text": ""}, "outer.text = ''; expected at least 1 character; correct it"),
    ({"maybe": "x"}, "outer.maybe = 'x'; expected a number; correct it"),
    ({"maybe": math.nan}, "outer.maybe = nan; expected a finite number; correct it"),
    ({"maybe": math.inf}, "outer.maybe = inf; expected a finite number; correct it"),
    ({"maybe": True}, "outer.maybe = true; expected a number; correct it"),
    ({"inner": None}, "outer.inner = null; expected a mapping; correct it"),
    ({"inner": ["adam"]}, "outer.inner = ['adam']; expected a mapping; correct it"),
    ({"inner": {"name": "adam", "rate": 2}}, "outer.inner.rate = 2; expected at most 1; correct it"),
    ({"inner": {"name": "adam", "rate": 0}}, "outer.inner.rate = 0; expected more than 0; correct it"),
    ({"inner": {"name": "adam", "rate": 0.5}}, "outer.inner.rate = 0.5; expected anything but a half; correct it"),
    ({"inner": {"name": "adm", "rate": 1}}, "outer.inner.name = 'adm'; expected 'adam' or 'sgd'; did you mean 'adam'?"),
    ({"inner": {"name": 3, "rate": 1}}, "outer.inner.name = 3; expected 'adam' or 'sgd'; choose one of these"),
    ({"inner": {"name": "adam"}}, "'outer.inner.rate' is missing; expected this key; add it, or restore params.yaml"),
    ({"inner": {"name": "sgd", "rate": 1, "rat": 2}}, "unknown key 'outer.inner.rat'; expected one of name, rate; did"),
    ({"zzz": 1}, "unknown key 'outer.zzz'; expected one of count, sizes, on, text, maybe, inner, free; remove it"),
    ({"int": 1}, "unknown key 'outer.int'; expected one of count, sizes, on, text, maybe, inner, free; "),
    ({"cuont": 1}, "did you mean 'count'?"),
    ({3: 1}, "key outer.3; expected keys that are text; quote it, or remove it"),
    ({None: 1}, "key outer.None; expected keys that are text; quote it, or remove it"),
    ({"free": {1: 2}}, "key outer.free.1; expected keys that are text; quote it, or remove it"),
    ({"free": []}, "outer.free = []; expected a mapping; correct it"),
    ({"count": 1, "inner": {"name": "adam", "rate": 1}}, "outer.inner.rate = 1.0; expected below 1 while count is 1; "),
]


@pytest.mark.parametrize(("change", "message"), CASES)
def test_a_fault_names_key_value_what_is_allowed_and_what_to_do(change: dict[Any, Any], message: str) -> None:
    (fault,) = faults(VALID | change)
    assert message in fault
    assert len(fault.split("; ")) == 3


@pytest.mark.parametrize("value", [None, 3, "x", [], [1]])
def test_a_section_that_is_no_mapping_is_one_fault(value: object) -> None:
    assert faults(value) == [f"outer = {shown(value)}; expected a mapping; correct it"]


def test_all_faults_are_reported_together_with_their_keys() -> None:
    wrong = VALID | {"count": 0, "sizes": [1, "x"], "on": "no", "other": 1}
    del wrong["text"]
    with pytest.raises(GroupedUserError) as caught:
        parse(Outer, wrong, "outer")
    keys = [fault.key for fault in caught.value.faults]
    assert sorted(keys) == ["outer.count", "outer.on", "outer.other", "outer.sizes.0", "outer.sizes.1", "outer.text"]


def test_a_long_value_is_shortened() -> None:
    (fault,) = faults(VALID | {"count": "x" * 5000})
    assert len(fault) < 250
    (fault,) = faults(VALID | {"count": list(range(1000))})
    assert fault == "outer.count = [0, 1, 2, 3, 4, 5, ...]; expected a whole number; correct it"


def test_a_value_that_holds_itself_is_shown_and_refused(file: Path) -> None:
    file.write_text("outer: &a {inner: *a}\n")
    with pytest.raises(GroupedUserError, match=r"'outer.inner.rate' is missing"):
        load(Outer, "outer", file)


# Places -------------------------------------------------------------------------------------------------


def test_a_dotted_key_is_looked_up_part_by_part(file: Path) -> None:
    file.write_text("a: {b: {c: 3, d: null}}\n")
    assert lookup(read(file), "a.b.c") == 3
    assert lookup(read(file), "a.b.d") is None


@pytest.mark.parametrize(
    ("key", "missing"), [("x", "x"), ("a.x.y", "a.x"), ("a.b.c.d", "a.b.c.d"), ("a.b.c.d.e", "a.b.c.d")]
)
def test_a_missing_key_is_named_as_far_as_it_is_missing(key: str, missing: str) -> None:
    with pytest.raises(ParameterError) as caught:
        lookup({"a": {"b": {"c": 3}}}, key)
    assert str(caught.value) == f"'{missing}' is missing; expected this key; add it, or restore params.yaml from git"
    assert caught.value.key == missing


def test_seed_and_threads_stand_at_the_top(file: Path) -> None:
    file.write_text("seed: 7\nthreads: 3\nother: {}\n")
    assert (params.seed(file), params.threads(file)) == (7, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: -1\nthreads: 0", ["seed = -1; expected at least 0", "threads = 0; expected at least 1"]),
        ("seed: 4294967296\nthreads: 2", ["seed = 4294967296; expected less than 2147483648"]),
        ("threads: two", ["'seed' is missing", "threads = 'two'; expected a whole number"]),
    ],
)
def test_faults_of_seed_and_threads_are_reported_together(text: str, expected: list[str], file: Path) -> None:
    file.write_text(text)
    with pytest.raises(GroupedUserError) as caught:
        params.seed(file)
    messages = [str(fault) for fault in caught.value.faults]
    assert len(messages) == len(expected)
    assert all(message.startswith(start) for message, start in zip(messages, expected, strict=True))


def test_merging_overrides_value_by_value_and_changes_neither_side() -> None:
    base, over = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}, {"a": {"c": [3]}, "d": None, "f": {"g": 1}}
    assert merge(base, over) == {"a": {"b": 1, "c": [3]}, "d": None, "f": {"g": 1}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}
    assert over == {"a": {"c": [3]}, "d": None, "f": {"g": 1}}


def test_the_nearest_choice_is_proposed_only_when_one_is_near() -> None:
    assert nearest("adma", ["sgd", "adam"]) == "did you mean 'adam'?"
    assert nearest("zzz", ["sgd", "adam"]) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (False, "false"), ("true", "'true'"), (1.5, "1.5"), ((1, 2), "[1, 2]")],
)
def test_a_value_is_shown_as_it_stands_in_yaml(value: object, text: str) -> None:
    assert shown(value) == text
