"""Kill the graph at random moments, fill its disk, take Prefect's server away: what is lost, and what is said.

    python benchmarks/reliability.py                      # all parts
    python benchmarks/reliability.py --parts kills --count 20

Each trial works in a clone of this project with a small graph. `kills`: SIGKILL to everything that `dvc repro`, or the
flow with two jobs, has started, `--count` times, then one run to the end. `disks`: a file system (tmpfs, which takes
root) that is full at some moment; the run must fail with a line and complete once there is room. `servers`: Prefect's
server is killed while the flow runs; the flow must complete all the same. Afterwards all artefacts must have the bytes
of a run that nobody disturbed.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.clone import Clone, Done  # noqa: E402 (the project is on the path now)
from tests.support.images import draw  # noqa: E402
from tests.support.processes import marked_ids  # noqa: E402
from tests.whole.test_smoke import BOTH, SAME, SCRATCH, SMALL, SMALLEST  # noqa: E402

DVC = ("dvc", "repro", "compare")
FLOW = ("flows.compare", "--jobs", "2", "compare")
# Seconds between two kills: long enough for some stages to end, short enough to hit each.
BETWEEN = (1.0, 12.0)
MEGABYTE = 2**20
# When disturbances come.
DRAW = np.random.default_rng(1)


def project(place: Path) -> Clone:
    """Make a project with a small graph, under git."""
    clone = Clone.of_project(place / "project")
    draw(clone.folder / "images")
    clone.set(SMALL)
    clone.backbones(SMALLEST, SCRATCH % 16)
    clone.commit("start")
    return clone


def finish(clone: Clone, command: tuple[str, ...]) -> Done:
    """Run a module of Python in the clone to its end."""
    process = clone.start(*command)
    output, _ = process.communicate()
    return Done(process.returncode, output, output)


def kill_all(process: "subprocess.Popen[str]", clone: Clone) -> None:
    """Kill everything that works in the clone: stages may have sessions of their own."""
    process.kill()
    for number in marked_ids(f"MARK={clone.folder}"):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.communicate()


def kills(start_clone: Callable[[str], Clone], whole: dict[str, str], count: int) -> None:
    """Kill everything `count` times, by DVC and by the flow, and print what a last run finds."""
    for name, command in (("dvc repro", DVC), ("flow with two jobs", FLOW)):
        done, runs, clone = 0, 0, start_clone(f"kills{command[0]}")
        while done < count:
            process = clone.start(*command, MARK=str(clone.folder))
            try:
                output, _ = process.communicate(timeout=DRAW.uniform(*BETWEEN))
            except subprocess.TimeoutExpired:
                kill_all(process, clone)
                done += 1
                continue
            if process.returncode:
                row(name, f"{done} kills", f"then failed: {said(Done(process.returncode, output, output))}")
                return
            # Ended before it was killed: begin again, from nothing.
            runs += 1
            clone = start_clone(f"kills{command[0]}{runs}")
        last = finish(clone, command)
        row(name, f"{done} kills, {runs + 1} runs", outcome(last, clone, whole))


def row(*cells: str) -> None:
    """Print a row of the table as soon as it is known."""
    print("| " + " | ".join(cells) + " |", flush=True)


def outcome(last: Done, clone: Clone, whole: dict[str, str]) -> str:
    """Return whether the last run completed, and what differs from an undisturbed one."""
    if last.code:
        return f"failed with {last.code}: {said(last)}"
    found = clone.digests(*COMPARED)
    differing = sorted(name for name in found | whole if found.get(name) != whole.get(name))
    left = [str(path) for path in (clone.folder / "data").rglob(".*.partial")]
    return f"completed; {len(differing)} of {len(whole)} files differ {differing[:3] or ''}, {len(left)} partial files"


def said(done: Done) -> str:
    """Return the lines of a failed run that speak of the failure."""
    lines = [line.strip() for line in done.output.splitlines() if re.search(r"(?i)error|failed|space|Traceback", line)]
    return " / ".join(lines[:3])[:400]


def disks(place: Path, source: Clone, whole: dict[str, str], count: int) -> None:
    """Run on a full disk `count` times, then with room."""
    for number in range(count):
        with full(place / f"disk{number}", 1024) as folder:
            clone = source.clone(folder / "clone")
            used = shutil.disk_usage(folder).used
            # From hardly any room to more than a run needs.
            room = int(used + (0.2 + 36 * number / max(1, count - 1)) * MEGABYTE)
            resize(folder, room)
            failed = finish(clone, DVC)
            traceback = "Traceback" in failed.output
            resize(folder, 1024 * MEGABYTE)
            last = finish(clone, DVC)
            what = f"exit {failed.code}, {'TRACEBACK, ' if traceback else ''}{said(failed)}"
            row(f"disk with {(room - used) / MEGABYTE:.1f} MB of room", what, outcome(last, clone, whole))


@contextmanager
def full(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of its own at `folder`."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(folder: Path, size: int) -> None:
    """Change the size of such a file system, bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def servers(start_clone: Callable[[str], Clone], whole: dict[str, str], count: int) -> None:
    """Kill Prefect's server under a flow `count` times."""
    for number in range(count):
        clone = start_clone(f"server{number}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = clone.start("prefect", "server", "start", "--no-ui", "--port", str(port))
        time.sleep(15)
        process = clone.start(*FLOW, PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
        time.sleep(DRAW.uniform(5, 40))
        os.killpg(server.pid, signal.SIGKILL)
        lost = time.monotonic()
        output, _ = process.communicate()
        last = Done(process.returncode, output, output)
        after = time.monotonic() - lost
        lines = "TRACEBACK, " if "Traceback" in output else ""
        row("server lost", f"{lines}ended {after:.0f} s after it", outcome(last, clone, whole))


# Without exports: they take longer than all the rest.
COMPARED = tuple(name for name in SAME if name != "data/exports")
PARTS = ("kills", "disks", "servers")


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--count", type=int, default=20, help="kills of each command; half of it for disks, a quarter for servers"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = project(place)
        undisturbed = source.clone(place / "undisturbed")
        first = finish(undisturbed, DVC)
        if first.code:
            sys.exit(first.output)
        whole = undisturbed.digests(*COMPARED)
        print(f"{len(whole)} files of {' and '.join(BOTH)}\n")
        row("trial", "what happened", "afterwards")
        row(":--", ":--", ":--")

        def start_clone(name: str) -> Clone:
            clone = source.clone(place / name.replace(".", "_"))
            (clone.folder / ".cache/prefect").mkdir(parents=True)
            return clone

        if "kills" in options.parts:
            kills(start_clone, whole, options.count)
        if "disks" in options.parts:
            disks(place, source, whole, options.count // 2)
        if "servers" in options.parts:
            servers(start_clone, whole, options.count // 4)


if __name__ == "__main__":
    main()
