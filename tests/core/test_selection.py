"""Which backbones are fine-tuned is read as it was written, and one line where nothing was."""

from pathlib import Path

import pytest

from stages.core import selection
from stages.core.errors import DataError


def test_fates_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    selection.write({"a": True, "b": False, "c": True})
    assert selection.fine_tuned(["c", "b", "a"]) == ["c", "a"]
    assert [selection.is_fine_tuned(backbone) for backbone in "abc"] == [True, False, True]


def test_an_undecided_fate_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    selection.write({"a": True})
    with pytest.raises(DataError, match=r"no data/candidates/b.json, data/candidates/c.json; .* repro candidates"):
        selection.fine_tuned(["a", "b", "c"])
