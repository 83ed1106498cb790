"""Programs that measure are started seldom: that what they take from the project is still there shows here."""

import importlib

import pytest

from tests.support.features import ROOT


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_a_benchmark_finds_what_it_imports(name: str) -> None:
    assert importlib.import_module(f"benchmarks.{name}").__doc__
