from pathlib import Path

import pytest

from flows import remotes
from flows.dvc import read_graph
from flows.graph import FlowError
from flows.locks import release_dead
from flows.process import ProcessGroups
from tests.flows.conftest import CONFIG

# One kind of stage each that a run cache does not keep, one that it does, and what needs the last of them.
STAGES = """\
stages:
  kept:
    foreach: [a, b]
    do: {cmd: 'touch ${item}', deps: [train.py], outs: ['${item}'], metrics: ['${item}.json']}
  counted: {cmd: touch c, params: [rate], outs: [c]}
  uncached: {cmd: touch d, deps: [a], outs: [d: {cache: false}]}
  measured:
    foreach: [x]
    do: {cmd: touch e, deps: [a], metrics: [e: {cache: false}]}
  persistent: {cmd: touch f, deps: [a], outs: [f: {persist: true}]}
  restless: {cmd: touch g, deps: [a], outs: [g], always_changed: true}
  rootless: {cmd: touch h, outs: [h]}
  report: {cmd: touch i, deps: [h], outs: [i]}
"""


def remote(project: Path, url: str) -> None:
    (project / ".dvc/config").write_text(f"{CONFIG}    remote = store\n['remote \"store\"']\n    url = {url}\n")


def test_what_a_run_cache_does_not_keep_and_what_needs_it_is_known(project: Path) -> None:
    (project / "dvc.yaml").write_text(STAGES)
    (project / "params.yaml").write_text("rate: 1")
    names = {"uncached", "measured@x", "persistent", "restless", "rootless", "report"}
    assert remotes.not_restorable(read_graph()) == names


def test_a_remote_that_cannot_do_it_is_refused_without_its_url(project: Path) -> None:
    with pytest.raises(FlowError, match=r"^DVC has no default remote; run `dvc remote add --default NAME URL`$"):
        remotes.require_run_cache()
    remote(project, "https://me:secret@example.com/store")
    with pytest.raises(FlowError, match=r"^DVC's remote 'store' uses HTTP, which cannot store a run cache;") as caught:
        remotes.require_run_cache()
    assert "secret" not in str(caught.value)
    remote(project, "s3://bucket/store")
    remotes.require_run_cache()


def test_settings_that_cannot_be_read_are_one_line(project: Path) -> None:
    (project / ".dvc/config").write_text("[core\nremote = store")
    with pytest.raises(FlowError, match=r"^DVC's settings cannot be read: ") as caught:
        remotes.require_remote()
    assert "\n" not in str(caught.value)


def test_a_stage_whose_needs_the_remote_does_not_have_is_not_run_on_top_of_them(project: Path) -> None:
    remote(project, "../store")
    (project / "dvc.yaml").write_text(
        "stages:\n"
        "  first: {cmd: sleep 100; touch first, deps: [train.py], outs: [first]}\n"
        "  last: {cmd: touch last, deps: [first], outs: [last]}\n"
    )
    said = r"^DVC's remote has no record of the run of 'first', .*; run `dvc repro first` where"
    with pytest.raises(FlowError, match=said):
        remotes.reproduce("last", ProcessGroups(), print)
    # As each run does first: a DVC that was ended may leave half a list.
    release_dead()
    with pytest.raises(FlowError, match=said):
        remotes.restore("first", ProcessGroups())
    assert not (project / "first").exists()
    assert not (project / "last").exists()
