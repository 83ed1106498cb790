"""The graph of stages as plain data: read from DVC's dot text, cut to targets, walked in order."""

import difflib
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter

# Each stage with the stages that it needs directly, in the order that DVC lists them.
Graph = Mapping[str, frozenset[str]]

_DOT_LINE = re.compile(r'^"(?P<stage>[^"]+)"(?: -> "(?P<next>[^"]+)")?;$', re.MULTILINE)


class FlowError(Exception):
    """A fault that the user can mend, in one line."""


def parse(dot: str) -> Graph:
    """Return the graph in the output of `dvc dag --dot`, whose arrows point downstream.

    Nodes of `.dvc` files are data, not stages, and are left out.
    """
    needs: dict[str, set[str]] = {}
    for match in _DOT_LINE.finditer(dot):
        stage, following = match["stage"], match["next"]
        if stage.endswith(".dvc"):
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
    """Which stages may start: those whose needs are done, at most `jobs` at a time.

    What needs a failed stage never starts; everything else goes on.
    """

    def __init__(self, graph: Graph, jobs: int) -> None:
        self._graph, self._jobs = graph, jobs
        self._order = TopologicalSorter(graph)
        self._order.prepare()
        self._ready: deque[str] = deque()
        self._running: set[str] = set()
        self._started: set[str] = set()
        self.failed: list[str] = []

    def start(self) -> list[str]:
        """Return the stages that start now; they count as running until `finish` is called."""
        self._ready.extend(self._order.get_ready())
        free = self._jobs - len(self._running)
        starting = [self._ready.popleft() for _ in range(min(free, len(self._ready)))]
        self._running.update(starting)
        self._started.update(starting)
        return starting

    def finish(self, stage: str, *, succeeded: bool) -> None:
        """Note that `stage` has ended; success is what lets its descendants start."""
        self._running.remove(stage)
        if succeeded:
            self._order.done(stage)
        else:
            self.failed.append(stage)

    @property
    def skipped(self) -> list[str]:
        """The stages that have not been started, in the order of the graph."""
        return [stage for stage in self._graph if stage not in self._started]


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
