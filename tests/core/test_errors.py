"""A user's fault is one line and exit code 1; any other failure keeps its traceback."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.core.errors import (
    DataError,
    EngineError,
    GroupedUserError,
    ParameterError,
    UserError,
    WeightsError,
    one_line,
    run,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_warnings() -> Iterator[None]:
    """`run` sends warnings to the log; give them back to pytest afterwards."""
    yield
    logging.captureWarnings(capture=False)


def test_a_fault_says_what_was_received_what_was_expected_and_what_to_do() -> None:
    fault = DataError("an empty folder", "images", "add some")
    assert str(fault) == "an empty folder; expected images; add some"
    assert (fault.received, fault.expected, fault.remedy) == ("an empty folder", "images", "add some")


def test_only_a_parameter_has_a_place_in_params_yaml() -> None:
    assert ParameterError("seed = -1", "at least 0", "correct it", "seed").key == "seed"
    assert ParameterError("seed = -1", "at least 0", "correct it").key == DataError("", "", "").key == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("\x1b[31mred\x00", "\\x1b[31mred\\x00"),
        ("separator \u2028 and \udcff", "separator \\u2028 and \\udcff"),
        ("plain, é, 木, \U0001f333", "plain, é, 木, \U0001f333"),
    ],
)
def test_a_strange_name_cannot_break_the_line(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert shown in str(DataError(f"file '{text}'", "images", "rename it"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ParameterError, "params.yaml"),
        (DataError, "data"),
        (WeightsError, "weights"),
        (EngineError, "engine"),
        (UserError, "error"),
    ],
)
def test_a_fault_is_printed_as_one_line_of_its_kind(
    error: type[UserError], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error("this", "that", "do so")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"{kind}: this; expected that; do so\n"


def test_faults_found_together_are_printed_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    faults: list[UserError] = [ParameterError("a", "b", "c"), DataError("d", "e", "f")]

    def main() -> None:
        raise GroupedUserError(faults)

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "params.yaml: a; expected b; c\ndata: d; expected e; f\n"
    assert str(GroupedUserError(faults)) == "a; expected b; c\nd; expected e; f"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        run(main)


def test_success_returns(capsys: pytest.CaptureFixture[str]) -> None:
    run(lambda: None)
    assert capsys.readouterr().err == ""


def test_log_lines_and_warnings_go_to_stderr_without_dates() -> None:
    program = (
        "import logging, warnings\n"
        "from stages.core.errors import run\n"
        "def main():\n"
        "    logging.getLogger('x').info('a milestone')\n"
        "    warnings.warn('odd', UserWarning, stacklevel=1)\n"
        "run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stderr.splitlines()[:2]
    assert first == "INFO a milestone"
    assert second.startswith("WARNING ")
    assert second.endswith("UserWarning: odd")
    assert done.stdout == ""
