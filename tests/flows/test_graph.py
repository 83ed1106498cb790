from collections.abc import Collection

import pytest

from flows.graph import FlowError, Schedule, parse, select, with_descendants

DOT = """\
strict digraph {
"ingest";
"train@a";
"train@b";
"compare";
"images.dvc";
"unused.dvc";
"ingest" -> "train@a";
"ingest" -> "train@b";
"train@a" -> "compare";
"train@b" -> "compare";
"images.dvc" -> "ingest";
}
"""
GRAPH = parse(DOT)


def test_the_graph_says_what_each_stage_needs_and_leaves_out_data_that_none_needs() -> None:
    assert {
        "ingest": frozenset({"images.dvc"}),
        "train@a": {"ingest"},
        "train@b": {"ingest"},
        "compare": {"train@a", "train@b"},
        "images.dvc": frozenset(),
    } == GRAPH
    assert list(GRAPH) == ["ingest", "train@a", "train@b", "compare", "images.dvc"]


def test_a_target_brings_all_that_it_needs_and_nothing_else() -> None:
    assert list(select(GRAPH, ["train@a"])) == ["ingest", "train@a", "images.dvc"]


def test_the_name_before_the_at_sign_means_the_whole_group() -> None:
    assert list(select(GRAPH, ["train"])) == ["ingest", "train@a", "train@b", "images.dvc"]


def test_no_targets_mean_everything() -> None:
    assert select(GRAPH, []) == GRAPH


@pytest.mark.parametrize(("typed", "meant"), [("trian@b", "train@b"), ("trian", "train"), ("comparison", "compare")])
def test_an_unknown_target_is_refused_with_the_nearest_one(typed: str, meant: str) -> None:
    with pytest.raises(FlowError, match=f"^unknown target '{typed}'; expected .*; did you mean '{meant}'\\?$"):
        select(GRAPH, ["ingest", typed])


def test_what_is_changed_spreads_downstream() -> None:
    assert with_descendants(GRAPH, ["train@a"]) == {"train@a", "compare"}
    assert with_descendants(GRAPH, []) == set()


def schedule(jobs: int, changed: Collection[str] = GRAPH, *, fail_fast: bool = False) -> Schedule:
    """Return a schedule of stages that fit beside each other, whichever they are."""
    return Schedule(GRAPH, changed, jobs, lambda _stage, _running: True, fail_fast=fail_fast)


def finish(plan: Schedule, *stages: str) -> None:
    for stage in stages:
        plan.finish(stage, "done")


def test_a_stage_starts_as_soon_as_what_it_needs_is_done() -> None:
    plan = schedule(jobs=8)
    assert plan.start() == ["images.dvc"]
    finish(plan, "images.dvc")
    assert plan.start() == ["ingest"]
    assert plan.start() == []
    finish(plan, "ingest")
    assert plan.start() == ["train@a", "train@b"]
    finish(plan, "train@b")
    assert plan.start() == []
    assert (plan.running, plan.left) == (["train@a"], ["compare"])
    finish(plan, "train@a")
    assert plan.start() == ["compare"]


def test_unchanged_stages_are_done_from_the_start() -> None:
    plan = schedule(8, ["train@b", "compare"])
    assert plan.done == ["ingest", "train@a", "images.dvc"]
    assert plan.start() == ["train@b"]
    finish(plan, "train@b")
    assert plan.start() == ["compare"]
    finish(plan, "compare")
    assert plan.complete


def test_no_more_stages_run_at_once_than_allowed() -> None:
    plan = schedule(jobs=1)
    order = []
    while starting := plan.start():
        assert len(starting) == 1
        assert plan.start() == []
        order += starting
        finish(plan, *starting)
    assert order == ["images.dvc", "ingest", "train@a", "train@b", "compare"]
    assert plan.complete


def test_a_failed_stage_stops_its_descendants_only() -> None:
    plan = schedule(1, ["train@a", "train@b", "compare"])
    assert plan.start() == ["train@a"]
    plan.finish("train@a", "failed")
    assert plan.start() == ["train@b"]
    finish(plan, "train@b")
    assert plan.start() == []
    assert (plan.failed, plan.left, plan.complete) == (["train@a"], ["compare"], False)


def test_nothing_starts_after_a_failure_that_is_to_stop_all() -> None:
    plan = schedule(1, ["train@a", "train@b", "compare"], fail_fast=True)
    assert plan.start() == ["train@a"]
    plan.finish("train@a", "failed")
    assert plan.start() == []
    assert plan.left == ["train@b", "compare"]


def test_a_stage_that_does_not_fit_waits_and_lets_others_pass() -> None:
    plan = Schedule(GRAPH, ["train@a", "train@b"], 8, lambda stage, running: stage != "train@a" or not running)
    plan.running.append("something else")
    assert plan.start() == ["train@b"]
    plan.running.remove("something else")
    assert plan.start() == []
    finish(plan, "train@b")
    assert plan.start() == ["train@a"]
