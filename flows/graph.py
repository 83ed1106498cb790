"""The graph of stages as plain data: read from DVC's dot text, cut to targets, walked in order."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Literal

# Each stage with the stages that it needs directly, in the order that DVC lists them. A `.dvc` file is one
# of them: DVC notes there which images it has found.
Graph = Mapping[str, frozenset[str]]
# How a stage ends that has been started: as it should, by a fault of its own, or because of a stop.
End = Literal["done", "failed", "stopped"]

_DOT_LINE = re.compile(r'^"(?P<stage>[^"]+)"(?: -> "(?P<next>[^"]+)")?;$', re.MULTILINE)


class FlowError(Exception):
    """A fault that the user can mend, in one line."""


def parse(dot: str) -> Graph:
    """Return the graph in the output of `dvc dag --dot`, whose arrows point downstream.

    A `.dvc` file that no stage needs is left out, as `dvc repro` does.
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
    """Return the part of `graph` that `targets` and all they need make up; no targets mean everything.

    A target is a stage, or a group of stages written with `foreach` ("train" for "train@a", "train@b").
    Raise FlowError for a target that is neither.
    """
    if not targets:
        return graph
    wanted: set[str] = set()
    for target in targets:
        wanted |= _named(graph, target)
    return {stage: needed for stage, needed in graph.items() if stage in _reach(graph, wanted)}


def with_descendants(graph: Graph, stages: Iterable[str]) -> set[str]:
    """Return `stages` and all stages of `graph` that need one of them, directly or not."""
    following: dict[str, set[str]] = {stage: set() for stage in graph}
    for stage, needed in graph.items():
        for upstream in needed:
            following[upstream].add(stage)
    return _reach(following, stages)


class Schedule:
    """Which stages of a graph may start: those `changed` whose needs are done, at most `jobs` at a time.

    `fits` says whether a stage may run beside others. What needs a failed stage never starts; everything else
    goes on, unless `fail_fast` says that nothing does.
    """

    def __init__(
        self,
        graph: Graph,
        changed: Collection[str],
        jobs: int,
        fits: Callable[[str, Collection[str]], bool],
        *,
        fail_fast: bool = False,
    ) -> None:
        self.graph, self.running = graph, list[str]()
        self._jobs, self._fits, self.fail_fast = jobs, fits, fail_fast
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
            if len(self.running) < self._jobs and self._fits(stage, self.running):
                self._ready.remove(stage)
                self.running.append(stage)
                started.append(stage)
        return started

    def finish(self, stage: str, end: End) -> None:
        """Note how `stage` has ended; success is what lets its descendants start."""
        self.running.remove(stage)
        self._ends[stage] = end
        if end == "done":
            self._order.done(stage)

    @property
    def done(self) -> list[str]:
        """The stages that were unchanged or have ended as they should."""
        return self._ended("done")

    @property
    def failed(self) -> list[str]:
        """The stages that have failed, the first one first."""
        return self._ended("failed")

    @property
    def stopped(self) -> list[str]:
        """The stages that were stopped before their end."""
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
    """Return `starts` and everything that is reached from them along `edges`."""
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        stage = waiting.pop()
        if stage not in reached:
            reached.add(stage)
            waiting.extend(edges[stage])
    return reached
