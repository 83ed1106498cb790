"""The graph of stages as plain data: parsed from DVC's dot output, reduced to targets, scheduled in order."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Literal

# Each stage with its direct dependencies, in DVC's order. A `.dvc` file counts as a stage: DVC records there which
# images it tracks.
Graph = Mapping[str, frozenset[str]]
# How a started stage ends: successfully, by its own fault, or because it was stopped.
End = Literal["done", "failed", "stopped"]

_DOT_LINE = re.compile(r'^"(?P<stage>[^"]+)"(?: -> "(?P<next>[^"]+)")?;$', re.MULTILINE)


class FlowError(Exception):
    """A fault that the user can fix, in one line."""


def parse(dot: str) -> Graph:
    """Return the graph in the output of `dvc dag --dot`, whose arrows point downstream.

    A `.dvc` file that no stage depends on is left out, as in `dvc repro`.
    """
    needs: dict[str, set[str]] = {}
    for match in _DOT_LINE.finditer(dot):
        stage, following = match["stage"], match["next"]
        if stage.endswith(".dvc") and not following:
            continue
        needs.setdefault(stage, set())
        if following:
            needs.setdefault(following, set()).add(stage)
    return {stage: frozenset(needed) for stage, needed in needs.items()}


def select(graph: Graph, targets: Sequence[str]) -> Graph:
    """Return the part of `graph` with `targets` and their dependencies; without targets everything.

    A target is a stage, or a group of stages written with `foreach` ("train" for "train@a", "train@b").
    Raises FlowError for a target that is neither.
    """
    if not targets:
        return graph
    wanted: set[str] = set()
    for target in targets:
        wanted |= _named(graph, target)
    return {stage: needed for stage, needed in graph.items() if stage in _reach(graph, wanted)}


def with_descendants(graph: Graph, stages: Iterable[str]) -> set[str]:
    """Return `stages` and all stages of `graph` that depend on them, directly or not."""
    following: dict[str, set[str]] = {stage: set() for stage in graph}
    for stage, needed in graph.items():
        for upstream in needed:
            following[upstream].add(stage)
    return _reach(following, stages)


class Schedule:
    """Which stages of a graph may start: those `changed` whose dependencies are done, at most `jobs` at a time.

    `has_capacity` says whether a stage may run beside others. Stages that depend on a failed one never start; all
    others go on, unless `fail_fast` is set.
    """

    def __init__(
        self,
        graph: Graph,
        changed: Collection[str],
        jobs: int,
        has_capacity: Callable[[str, Collection[str]], bool],
        *,
        fail_fast: bool = False,
    ) -> None:
        self.graph, self.running, self.reasons = graph, list[str](), dict[str, str]()
        self._jobs, self._has_capacity, self.fail_fast = jobs, has_capacity, fail_fast
        self._ends: dict[str, End] = {stage: "done" for stage in graph if stage not in changed}
        self._order = TopologicalSorter(
            {stage: graph[stage].intersection(changed) for stage in graph if stage in changed}
        )
        self._order.prepare()
        self._ready: list[str] = []

    def start(self) -> list[str]:
        """Return the stages that start now; they count as running until `finish` is called."""
        self._ready.extend(self._order.get_ready())
        if self.fail_fast and self.failed:
            return []
        started = []
        for stage in list(self._ready):
            if len(self.running) < self._jobs and self._has_capacity(stage, self.running):
                self._ready.remove(stage)
                self.running.append(stage)
                started.append(stage)
        return started

    def finish(self, stage: str, end: End, reason: str = "") -> None:
        """Record how `stage` ended, and why; its descendants start only if it succeeded."""
        self.running.remove(stage)
        self.reasons[stage] = reason
        self._ends[stage] = end
        if end == "done":
            self._order.done(stage)

    @property
    def done(self) -> list[str]:
        """The stages that were unchanged or have succeeded."""
        return self._ended("done")

    @property
    def failed(self) -> list[str]:
        """The stages that have failed, in order."""
        return self._ended("failed")

    @property
    def stopped(self) -> list[str]:
        """The stages that were stopped before they ended."""
        return self._ended("stopped")

    @property
    def left(self) -> list[str]:
        """The stages that have not been started, in the order of the graph."""
        return [stage for stage in self.graph if stage not in self._ends and stage not in self.running]

    @property
    def complete(self) -> bool:
        """Whether every stage of the graph is done."""
        return len(self.done) == len(self.graph)

    def _ended(self, end: End) -> list[str]:
        return [stage for stage, found in list(self._ends.items()) if found == end]


def _named(graph: Graph, target: str) -> set[str]:
    """Return the stages that `target` names."""
    if target in graph:
        return {target}
    group = {stage for stage in graph if stage.partition("@")[0] == target}
    if not group:
        known = [*graph, *{stage.partition("@")[0] for stage in graph}]
        close = difflib.get_close_matches(target, sorted(set(known)), n=1, cutoff=0)
        raise FlowError(
            f"unknown target '{target}'; expected a stage of dvc.yaml; "
            + (f"did you mean '{close[0]}'?" if close else "`dvc stage list` shows them")
        )
    return group


def _reach(edges: Mapping[str, Iterable[str]], starts: Iterable[str]) -> set[str]:
    """Return `starts` and everything that can be reached from them along `edges`."""
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        stage = waiting.pop()
        if stage not in reached:
            reached.add(stage)
            waiting.extend(edges[stage])
    return reached
