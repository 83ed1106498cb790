import pytest

from flows.graph import FlowError, Schedule, parse, select, with_descendants

DOT = """\
strict digraph {
"ingest";
"train@a";
"train@b";
"compare";
"pictures.dvc";
"ingest" -> "train@a";
"ingest" -> "train@b";
"train@a" -> "compare";
"train@b" -> "compare";
"pictures.dvc" -> "ingest";
}
"""
GRAPH = parse(DOT)


def test_the_graph_says_what_each_stage_needs_and_leaves_data_files_out() -> None:
    assert {
        "ingest": frozenset(),
        "train@a": {"ingest"},
        "train@b": {"ingest"},
        "compare": {"train@a", "train@b"},
    } == GRAPH
    assert list(GRAPH) == ["ingest", "train@a", "train@b", "compare"]


def test_a_target_brings_all_that_it_needs_and_nothing_else() -> None:
    assert list(select(GRAPH, ["train@a"])) == ["ingest", "train@a"]


def test_the_name_before_the_at_sign_means_the_whole_group() -> None:
    assert list(select(GRAPH, ["train"])) == ["ingest", "train@a", "train@b"]


def test_no_targets_mean_everything() -> None:
    assert select(GRAPH, []) == GRAPH


@pytest.mark.parametrize(("typed", "meant"), [("trian@b", "train@b"), ("trian", "train"), ("comparison", "compare")])
def test_an_unknown_target_is_refused_with_the_nearest_one(typed: str, meant: str) -> None:
    with pytest.raises(FlowError, match=f"^unknown target '{typed}'; expected .*; did you mean '{meant}'\\?$"):
        select(GRAPH, ["ingest", typed])


def test_what_is_changed_spreads_downstream() -> None:
    assert with_descendants(GRAPH, ["train@a"]) == {"train@a", "compare"}
    assert with_descendants(GRAPH, []) == set()


def test_a_stage_starts_as_soon_as_what_it_needs_is_done() -> None:
    schedule = Schedule(GRAPH, jobs=8)
    assert schedule.start() == ["ingest"]
    assert schedule.start() == []
    schedule.finish("ingest", succeeded=True)
    assert schedule.start() == ["train@a", "train@b"]
    schedule.finish("train@b", succeeded=True)
    assert schedule.start() == []
    schedule.finish("train@a", succeeded=True)
    assert schedule.start() == ["compare"]


def test_no_more_stages_run_at_once_than_allowed() -> None:
    schedule = Schedule(GRAPH, jobs=1)
    order = []
    while starting := schedule.start():
        assert len(starting) == 1
        assert schedule.start() == []
        order += starting
        schedule.finish(starting[0], succeeded=True)
    assert order == ["ingest", "train@a", "train@b", "compare"]
    assert (schedule.failed, schedule.skipped) == ([], [])


def test_a_failed_stage_stops_its_descendants_only() -> None:
    schedule = Schedule(GRAPH, jobs=1)
    assert schedule.start() == ["ingest"]
    schedule.finish("ingest", succeeded=True)
    assert schedule.start() == ["train@a"]
    schedule.finish("train@a", succeeded=False)
    assert schedule.start() == ["train@b"]
    schedule.finish("train@b", succeeded=True)
    assert schedule.start() == []
    assert (schedule.failed, schedule.skipped) == (["train@a"], ["compare"])
