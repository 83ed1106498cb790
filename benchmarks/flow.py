"""The flow beside plain `dvc repro`: locks, overhead, parallelism, stopping, the same bytes.

    python benchmarks/flow.py [--parts locks overhead sleeping stopping whole] [--backbones scratch ...]

Starts a Prefect server of its own on loopback, with its own database. All but `whole` run stages that do
nothing or sleep; `whole` runs the comparison of the built-in images twice, by `dvc repro` and by the flow
with two jobs. Prints Markdown. Takes twenty minutes on two cores, and twenty more for `whole`.
"""

import argparse
import hashlib
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
# Prefect reads it when it is first imported, and keeps its database there.
HOME = tempfile.TemporaryDirectory(prefix="flow-benchmark-")
os.environ["PREFECT_HOME"] = HOME.name

import flows  # noqa: E402, F401 (sets more that Prefect reads then)

# isort: split
from prefect.settings import get_current_settings  # noqa: E402

from flows.process import environment  # noqa: E402
from flows.server import server  # noqa: E402
from stages.core.params import read  # noqa: E402 (the project is on the path now)

PARTS = ("locks", "overhead", "sleeping", "stopping", "whole")
CONFIG = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n"
# Stages by name: seconds of sleep, and the stages that they need.
Sleepers = Mapping[str, tuple[float, tuple[str, ...]]]
TRAININGS = 2
# What a stopped training may do with SIGINT.
HEEDS = "import time; time.sleep(600)"
HEEDS_NOT = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
# Timings are not the same twice.
TIMED = ("data/benchmarks/", "data/report/comparison.")


def lay_out(folder: Path, stages: Mapping[str, Any]) -> Path:
    """Make a project of `stages` under git and DVC."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text(CONFIG, encoding="utf-8")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def sleeping_stages(sleepers: Sleepers) -> dict[str, Any]:
    """Return the entries of dvc.yaml for `sleepers`."""
    return {
        name: {"cmd": f"sleep {seconds} && echo {name} > {name}.txt", "outs": [f"{name}.txt"]}
        | ({"deps": [f"{need}.txt" for need in needs]} if needs else {})
        for name, (seconds, needs) in sleepers.items()
    }


def seconds_of(project: Path, *command: str) -> float:
    """Run a Python module in `project`; return its seconds. Exit when it fails."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project,
        env=flow_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return time.perf_counter() - begin


def flow_environment() -> dict[str, str]:
    """Return the environment of a user whose Prefect server runs."""
    return environment() | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": get_current_settings().api.url or ""}


def shape_of_the_comparison(seconds: Callable[[], float]) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Return sleepers that need each other as the real stages of nine backbones do."""
    names = [f"b{number}" for number in range(9)]
    shared = {"check": (), "ingest": ("check",), "split": ("ingest",), "preprocess": ("split",)}
    graph: dict[str, tuple[str, ...]] = dict(shared)
    for name in names:
        graph |= {
            f"weights-{name}": ("check",),
            f"features-{name}": ("preprocess", f"weights-{name}"),
            f"probe-{name}": (f"features-{name}",),
            f"finetune-{name}": (f"features-{name}",),
            f"evaluate-{name}": (f"finetune-{name}",),
            f"benchmark-{name}": (f"finetune-{name}",),
        }
    graph["audit"] = tuple(f"probe-{name}" for name in names)
    graph["compare"] = ("audit", *(f"{stage}-{name}" for stage in ("evaluate", "benchmark") for name in names))
    return {name: (seconds(), needs) for name, needs in graph.items()}


def critical_path(sleepers: Sleepers) -> float:
    """Return the seconds of the longest chain; stages stand behind what they need."""
    ends: dict[str, float] = {}
    for name, (seconds, needs) in sleepers.items():
        ends[name] = seconds + max((ends[need] for need in needs), default=0.0)
    return max(ends.values())


def locks(folder: Path, runs: int) -> None:
    """Run forty short stages sixteen at a time, again and again; a lock that fails ends the program."""
    taken = []
    for number in range(runs):
        project = lay_out(folder / f"locks{number}", sleeping_stages({f"s{index}": (0, ()) for index in range(40)}))
        taken.append(seconds_of(project, "flows.compare", "--jobs", "16"))
    print(
        f"\n40 short stages, --jobs 16: {runs} of {runs} runs without a failure, {min(taken):.1f} to {max(taken):.1f} s"
    )


def overhead(folder: Path, runs: int) -> None:
    """Compare runs in which nothing is to be done."""
    project = lay_out(folder / "overhead", sleeping_stages(shape_of_the_comparison(lambda: 0)))
    seconds_of(project, "dvc", "repro", "--quiet")
    both = [(seconds_of(project, "dvc", "repro"), seconds_of(project, "flows.compare")) for _ in range(runs)]
    plain, flow = (statistics.median(column) for column in zip(*both, strict=True))
    print(f"\nnothing to do, 60 stages, median of {runs}: ", end="")
    print(f"dvc repro {plain:.1f} s, flow {flow:.1f} s, {flow - plain:.1f} s more")


def sleeping(folder: Path) -> None:
    """Compare sleeping graphs with what their critical path and their sum allow."""
    print("\n| graph | stages | jobs | path, s | sum / jobs, s | took, s | 1.3 times the longer, and 2 s a stage |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    rng = random.Random(20)  # noqa: S311
    graphs: dict[str, tuple[int, Sleepers]] = {
        "equal, independent": (8, {f"s{index}": (10.0, ()) for index in range(16)}),
        "one long, many short": (4, {f"s{index}": (2.0, ()) for index in range(15)} | {"long": (20.0, ())}),
        "a chain": (4, {f"s{index}": (3.0, (f"s{index - 1}",) if index else ()) for index in range(6)}),
        "as the comparison, 2 to 8 s": (4, shape_of_the_comparison(lambda: round(rng.uniform(2, 8), 1))),
        "as the comparison, 2 to 8 s each": (16, shape_of_the_comparison(lambda: round(rng.uniform(2, 8), 1))),
    }
    for name, (jobs, sleepers) in graphs.items():
        project = lay_out(folder / name, sleeping_stages(sleepers))
        took = seconds_of(project, "flows.compare", "--jobs", str(jobs))
        path, share = critical_path(sleepers), sum(seconds for seconds, _ in sleepers.values()) / jobs
        allowed = 1.3 * max(path, share) + 2 * len(sleepers)
        print(
            f"| {name} | {len(sleepers)} | {jobs} | {path:.1f} | {share:.1f} | {took:.1f} | {allowed:.1f} |", flush=True
        )


def stopping(folder: Path) -> None:
    """Stop the flow while two trainings run; say after how many seconds none of their processes was left."""
    print("\n| signal to the flow | training | processes before | none left after, s |\n|:--|:--|--:|--:|")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for what, program in (("heeds SIGINT", HEEDS), ("ignores SIGINT", HEEDS_NOT)):
            train = {"cmd": f'sleep 600 & python -c "{program}"', "outs": ["model${item}"]}
            project = lay_out(
                folder / f"{number.name} {what}", {"train": {"foreach": list(range(TRAININGS)), "do": train}}
            )
            before, seconds = stop(project, number)
            print(f"| {number.name} | {what} | {before} | {seconds:.1f} |", flush=True)


def stop(project: Path, number: signal.Signals) -> tuple[int, float]:
    """Start the flow in `project` and stop it; return how many processes stages had, and the seconds to their end."""
    command = [sys.executable, "-m", "flows.compare", "--jobs", "2"]
    with (project / "log").open("wb") as log:
        flow = subprocess.Popen(command, cwd=project, env=flow_environment(), stdout=log, stderr=log)
    while sum(command_of(pid).startswith("python -c ") for pid in below(project)) < TRAININGS:
        if flow.poll() is not None:
            sys.exit((project / "log").read_text(encoding="utf-8"))
        time.sleep(0.1)
    time.sleep(1)
    before = len(below(project) - {flow.pid})
    begin = time.perf_counter()
    flow.send_signal(number)
    while below(project) - {flow.pid}:
        time.sleep(0.05)
    took = time.perf_counter() - begin
    flow.wait()
    return before, took


def below(folder: Path) -> set[int]:
    """Return the living processes whose working directory is `folder`."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder and "\nState:\tZ" not in (entry / "status").read_text():
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def command_of(pid: int) -> str:
    """Return the command line of a process, or nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def whole(folder: Path, backbones: list[str]) -> None:
    """Run the comparison of the built-in images by `dvc repro` and by the flow; compare times and bytes."""
    commands = {"dvc repro": ("dvc", "repro"), "the flow, --jobs 2": ("flows.compare", "--jobs", "2")}
    digests, taken = [], {}
    for name, command in commands.items():
        clone = folder / name.replace(" ", "-").strip(",-")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
        params["backbones"] = {backbone: params["backbones"][backbone] for backbone in backbones}
        (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        before = processor_seconds()
        taken[name] = (seconds_of(clone, *command), processor_seconds() - before)
        digests.append(digests_of(clone))
    differing = {name for name in digests[0] | digests[1] if digests[0].get(name) != digests[1].get(name)}
    times = ", ".join(f"{name} {wall:.0f} s ({busy:.0f} s of processor time)" for name, (wall, busy) in taken.items())
    print(
        f"\n{len(backbones)} backbones: {times}; {len(differing)} of {len(digests[0])} files differ", *sorted(differing)
    )


def processor_seconds() -> float:
    """Return the processor time of all that this process has started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def digests_of(clone: Path) -> dict[str, str]:
    """Return the SHA-256 of everything below data/ that holds no timings."""
    paths = [path for path in (clone / "data").rglob("*") if path.is_file()]
    names = {str(path.relative_to(clone)): path for path in paths}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(TIMED)
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runs", type=int, default=10, help="of the locks and of the overhead")
    parser.add_argument("--backbones", nargs="+", default=list(read(ROOT / "params.yaml")["backbones"]))
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name, server():
        folder = Path(name)
        measure: dict[str, Callable[[], None]] = {
            "locks": lambda: locks(folder, options.runs),
            "overhead": lambda: overhead(folder, options.runs),
            "sleeping": lambda: sleeping(folder),
            "stopping": lambda: stopping(folder),
            "whole": lambda: whole(folder, options.backbones),
        }
        for part in options.parts:
            measure[part]()


if __name__ == "__main__":
    main()
