"""The first screen names the images without secrets, and ends with a command that fits the verdict."""

import pytest

from stages.pages.language import ENGLISH
from stages.report.opening import Setting, next_step, warning
from tests.support import artefacts
from tests.support.contest import evidence


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/samples/yoga_figures", "yoga_figures"),
        ("/home/me/my_images/", "my_images"),
        ("../a@b?c", "a@b?c"),
        ("https://user:secret@host/a.zip?X-Amz-Signature=secret", "a.zip"),
        ("https://user:secret@host/?token=secret", "host"),
        ("s3://bucket/images", "images"),
        ("http://[", "["),
    ],
)
def test_a_source_is_named_by_its_last_part_without_secrets(source: str, name: str) -> None:
    assert Setting.of({"data": {"source": source}, "preset": "full"}) == Setting(name, "full")


LEAKS = artefacts.audit(leaks={"groups": 1, "images": 2, "test": 2, "split_used": True})


def test_what_the_quick_preset_trains_is_true_of_every_kind_of_weights() -> None:
    found = str(warning(Setting("poses", "quick"), ENGLISH))
    assert "pretrained" not in found
    assert "no network was fine-tuned" in found
    assert warning(Setting("poses", "full"), ENGLISH) is None


@pytest.mark.parametrize(
    ("found", "preset", "command"),
    [
        (evidence({"a": (), "b": range(30)}), "full", "python -m stages.predict FOLDER"),
        (evidence({"a": (), "b": range(30)}), "quick", "dvc repro"),
        (evidence({"a": (), "b": range(30)}, declared=["a", "b", "c"]), "full", "dvc repro"),
        (evidence({"a": (), "b": range(30)}, weights={"a": "random"}), "full",
         "dvc exp run -S weights.if_unreachable=stop"),
        (evidence({"a": (), "b": range(30)}, audit=LEAKS, source_split=True), "full", "dvc repro"),
        (evidence({"a": (), "b": (1,)}, images=8), "full", "dvc repro"),
    ],
    ids=["chosen", "quick", "missing", "random", "leaks", "too few"],
)  # fmt: skip
def test_the_next_command_follows_from_the_verdict(found, preset: str, command: str) -> None:
    step = next_step(found, Setting("poses", preset), ENGLISH)
    assert step.command == command
    assert str(step.what).startswith("Next")


def test_copies_are_left_out_by_the_line_of_the_audit_which_keeps_one_of_each() -> None:
    found = evidence({"a": (), "b": range(30)}, audit=LEAKS, source_split=True)
    assert "paste the line that audit.html has" in str(next_step(found, Setting("poses", "full"), ENGLISH).what)


def test_weights_that_are_random_on_purpose_are_replaced_by_published_ones() -> None:
    found = evidence({"a": (), "b": range(30)}, weights={"a": "random"})
    found.ranking[0].provenance["weights"]["reason"] = ""
    assert next_step(found, Setting("poses", "full"), ENGLISH).command == "dvc exp run -S weights.source=imagenet"
