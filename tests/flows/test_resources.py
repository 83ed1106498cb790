import threading
import time
from pathlib import Path

import pytest

from flows import resources
from flows.process import StoppedError
from flows.resources import gpu, has_capacity, uses_gpu
from flows.runners import LocalRunner

# Each stage notes when it begins and ends.
STAGES = """\
stages:
  features:
    foreach: [a, b]
    do:
      cmd: echo begin >> ran.log && sleep 1 && echo end >> ran.log && touch ${item}
      outs: ['${item}']
"""


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the place of a GPU's device."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(resources, "GPU_DEVICE", tmp_path / "nvidia0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("stage", "running", "room"),
    [
        ("probe@a", ["features@a", "finetune@b"], True),
        ("benchmark@a", [], True),
        ("benchmark@a", ["probe@b"], False),
        ("probe@b", ["benchmark@a"], False),
        ("benchmark@a", ["benchmark@b"], False),
        ("features@a", ["features@b"], True),
    ],
)
def test_a_benchmark_runs_alone_and_everything_else_beside_each_other(
    stage: str, running: list[str], *, room: bool
) -> None:
    assert has_capacity(stage, running) is room


def test_one_stage_at_a_time_uses_the_gpu(card: None) -> None:
    assert not has_capacity("features@a", ["finetune@b"])
    assert has_capacity("features@a", ["probe@a", "probe@b"])
    assert has_capacity("probe@a", ["features@b"])


def test_there_is_a_gpu_only_where_a_stage_can_see_one(card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert uses_gpu("finetune@a")
    assert not uses_gpu("probe@a")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not uses_gpu("finetune@a")


@pytest.mark.usefixtures("prefect_server", "card")
def test_flows_that_know_nothing_of_each_other_share_the_gpu(project: Path) -> None:
    (project / "dvc.yaml").write_text(STAGES)
    threads = [threading.Thread(target=LocalRunner().run, args=[f"features@{name}", print]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (project / "ran.log").read_text().split() == ["begin", "end"] * 2


@pytest.mark.usefixtures("prefect_server", "card")
def test_whoever_comes_too_late_for_a_free_gpu_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if it had been free at the moment when it was looked at.
    monkeypatch.setattr(resources, "_looks_free", lambda _name: True)
    heard, got = list[str](), threading.Event()

    def take() -> None:
        with gpu(lambda: None, heard.append):
            got.set()

    late = threading.Thread(target=take)
    with gpu(lambda: None, print):
        late.start()
        while not heard:
            time.sleep(0.1)
        assert not got.is_set()
    late.join()
    assert got.is_set()


@pytest.mark.usefixtures("prefect_server", "card")
def test_a_stop_reaches_a_stage_that_waits_for_the_gpu(project: Path) -> None:
    (project / "dvc.yaml").write_text(STAGES)
    runner, heard, ends = LocalRunner(), list[str](), list[Exception]()

    def run() -> None:
        try:
            runner.run("features@a", heard.append)
        except StoppedError as end:
            ends.append(end)

    waiting = threading.Thread(target=run)
    with gpu(lambda: None, print):
        waiting.start()
        while not heard:
            time.sleep(0.1)
        assert heard[0].startswith("Waiting for the GPU, which another flow holds. If there is no such flow: prefect ")
        runner.stop()
        waiting.join()
    assert len(ends) == 1
    assert not (project / "ran.log").exists()
