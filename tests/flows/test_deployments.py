"""A server, workers and what prefect.yaml declares, on schedule, on demand and on several machines, for real."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from flows import workspace
from flows.compare import compare, main
from flows.dvc import outdated, read_graph
from flows.stage import run_stage
from tests.flows.conftest import CONFIG
from tests.flows.runs import artifacts
from tests.flows.served import ROOT, Prefect, Worker, ended, start_run, started_runs, wait_for
from tests.support.prefect_home import begin_home

# Every stage notes its own start and the folder it runs in, in one place for all clones.
STAGES = """\
stages:
  first:
    cmd: python stage.py first ${shared}
    deps: [stage.py]
    outs: [first.txt]
  train:
    foreach: [a, b]
    do:
      cmd: python stage.py train-${item} ${shared}
      deps: [stage.py, first.txt]
      params: [rate]
      outs: ['train-${item}.txt']
  compare:
    cmd: python stage.py compare ${shared}
    deps: [stage.py, train-a.txt, train-b.txt]
    outs: [data/metrics.json: {cache: false}]
metrics: [data/metrics.json]
"""
# `together` makes the two trainings wait for each other, `slow` makes them endless and deaf to signals.
STAGE = """\
import json, os, signal, sys, time
from pathlib import Path

name, shared = sys.argv[1], Path(sys.argv[2])
log = shared / "ran.log"
slow = name != "first" and (shared / "slow").exists()
if slow:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with log.open("a") as file:
    file.write(f"{name} {Path.cwd().name}\\n")
if slow:
    os.fork()
    time.sleep(600)
deadline = time.monotonic() + 200
while (shared / "together").exists() and name.startswith("train") and time.monotonic() < deadline:
    if len([line for line in log.read_text().splitlines() if line.startswith("train")]) == 2:
        break
    time.sleep(0.1)
if (shared / f"fail-{name}").exists():
    sys.exit(f"data: {name} is broken")
if name != "compare":
    Path(f"{name}.txt").write_text(name)
else:
    scores = {"accuracy": 0.9, "log_loss": 0.1}
    Path("data/metrics.json").write_text(json.dumps({"best": "a", "a": scores, "b": scores}))
"""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server that knows what prefect.yaml declares; flows in this process, and what they start, report to it."""
    server = Prefect(begin_home(tmp_path_factory, tmp_path_factory.mktemp("prefect")))
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_API_URL: server.url}):
        patch.setenv("PREFECT_API_URL", server.url)
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        # Measuring the coverage of DVC would cost seconds and find nothing of ours.
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        try:
            with get_client(sync_client=True) as client:
                wait_for("the server does not answer", lambda: client.api_healthcheck() is None, server.log)
            server.deploy()
            yield server
            # What would be sent later finds no server.
            APILogWorker.instance().drain()
            EventsWorker.drain_all()
        finally:
            server.close()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder with a git server, DVC's remote, and the log of all stages that have run, wherever they did."""
    return lay_out(tmp_path)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for all tests of the pool, with the clone in which the flow runs."""
    folder = lay_out(tmp_path_factory.mktemp("farm"))
    clone(folder, "coordinator")
    return folder


@pytest.fixture(scope="module")
def started(prefect: Prefect, farm: Path) -> Iterator[dict[str, Worker]]:
    found = {name: prefect.worker(clone(farm, name), "stages") for name in ("one", "two")}
    yield found
    for worker in found.values():
        worker.kill()


@pytest.fixture
def workers(prefect: Prefect, farm: Path, started: dict[str, Worker]) -> dict[str, Worker]:
    """Two workers for single stages, each in a clone of its own."""
    started |= {
        name: prefect.worker(farm / name, "stages") for name, worker in started.items() if worker.process.poll()
    }
    return started


def lay_out(tmp_path: Path) -> Path:
    seed = tmp_path / "seed"
    (seed / ".dvc").mkdir(parents=True)
    (seed / "stages").mkdir()
    (seed / "stages/__init__.py").touch()
    (seed / "stages/gate.py").write_text("print('gate: passed: nothing has fallen')")
    (seed / "dvc.yaml").write_text(STAGES)
    (seed / "params.yaml").write_text(f"shared: {tmp_path}\nrate: 1\n")
    (seed / "stage.py").write_text(STAGE)
    remote = f"    remote = store\n['remote \"store\"']\n    url = {tmp_path}/store\n"
    (seed / ".dvc/config").write_text(CONFIG + remote)
    (seed / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (seed / "data").mkdir()
    (seed / "data/.gitignore").touch()
    (seed / ".gitignore").write_text("__pycache__\n")
    shutil.copy(ROOT / "prefect.toml", seed)
    git(seed, "init", "--quiet", "--initial-branch", "main")
    git(seed, "add", "--all")
    git(seed, "-c", "user.name=Tester", "-c", "user.email=tester@example.com", "commit", "--quiet", "-m", "one")
    git(tmp_path, "clone", "--quiet", "--bare", "seed", "origin.git")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def clone(shared: Path, name: str) -> Path:
    git(shared, "clone", "--quiet", "origin.git", name)
    git(shared / name, "config", "user.name", "Tester")
    git(shared / name, "config", "user.email", "tester@example.com")
    return shared / name


def ran(shared: Path) -> dict[str, list[str]]:
    """Return the folders in which each stage has run."""
    found: dict[str, list[str]] = {}
    log = shared / "ran.log"
    for line in log.read_text().splitlines() if log.exists() else []:
        stage, folder = line.split()
        found.setdefault(stage, []).append(folder)
    return found


def run_in(folder: Path, *targets: str) -> State[Any]:
    with contextlib.chdir(folder):
        state: State[Any] = compare(targets, 2, False, "stages", return_state=True)
    return state


def stage_run(name: str) -> FlowRun:
    """Return the latest run of a stage on a worker."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
    return max(found, key=lambda run: run.created or run.updated)


def cancel(run: FlowRun) -> None:
    """Do what the button in Prefect's UI does."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Cancelling())


def test_prefect_yaml_declares_a_nightly_schedule_and_where_things_run(prefect: Prefect) -> None:
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("nightly/nightly")
        on_demand = client.read_deployment_by_name("on-demand/on-demand")
        scoring = client.read_deployment_by_name("score/score")
        stage = client.read_deployment_by_name("stage/stage")
        (automation,) = client.request("POST", "/automations/filter").json()
    (schedule,) = nightly.schedules
    assert (schedule.slug, schedule.active) == ("nightly", True)
    assert isinstance(schedule.schedule, CronSchedule)
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 2 * * *", "Europe/Berlin")
    # Of images that nobody has named yet.
    (waiting,) = scoring.schedules
    assert (waiting.slug, waiting.active) == ("score", False)
    assert scoring.parameters["folder"] == "data/incoming"
    assert set(on_demand.parameter_openapi_schema["properties"]) == {"targets", "jobs", "overrides", "name"}
    assert nightly.work_pool_name == on_demand.work_pool_name == scoring.work_pool_name != stage.work_pool_name
    assert not [found.pull_steps for found in (nightly, on_demand, scoring, stage) if found.pull_steps]
    assert automation["actions"][0]["state"] == "CRASHED"


@contextlib.contextmanager
def scheduled(deployment: str, seconds: int, **parameters: Any) -> Iterator[None]:
    """Have a deployment run every so many seconds."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        client.update_deployment(found.id, DeploymentUpdate(parameters=found.parameters | parameters))
        interval = IntervalSchedule(interval=timedelta(seconds=seconds))
        (schedule,) = client.create_deployment_schedules(found.id, [(interval, True)])
        try:
            yield
        finally:
            client.delete_deployment_schedule(found.id, schedule.id)
            client.update_deployment(found.id, DeploymentUpdate(parameters=found.parameters))


def test_a_cancelled_run_leaves_nothing_behind_the_scheduled_one_goes_on_and_one_on_demand_is_done_beside_it(
    prefect: Prefect, shared: Path
) -> None:
    worker = prefect.worker(clone(shared, "clone"), "comparison")
    (shared / "slow").touch()
    run = start_run("nightly/nightly", jobs=2)
    wait_for("the trainings do not begin", lambda: {"train-a", "train-b"} <= set(ran(shared)), worker.log)
    assert len([command for command in worker.left() if "stage.py" in command]) >= 4
    cancel(run)
    wait_for("a process is left", lambda: not worker.left(), worker.log)
    done = ended(run, worker.log)
    assert done.state
    assert done.state.is_cancelled()

    (shared / "slow").unlink()
    with scheduled("nightly/nightly", 15, commit=True, push=True):
        (begun, *_) = wait_for(
            "no run has begun",
            lambda: [found for found in started_runs("nightly/nightly") if found.auto_scheduled],
            worker.log,
        )
    done = ended(begun, worker.log)
    assert done.state
    assert done.state.is_completed(), done.state.message
    said = "4 stages are up to date (3 ran, 1 cached); gate: passed: nothing has fallen; pushed to DVC's remote; "
    assert (done.state.message or "").startswith(f"{said}committed as "), done.state.message
    assert git(shared / "clone", "status", "--porcelain") == ""
    assert set(artifacts(done.state)) == {"durations", "ranking", "metrics-diff"}

    tried = ended(start_run("on-demand/on-demand", overrides=["rate=2"], name="faster"), worker.log)
    assert tried.state
    assert tried.state.message == (
        "4 stages are up to date (2 ran, 2 cached); saved as experiment faster: `dvc exp apply faster`"
    )
    assert git(shared / "clone", "status", "--porcelain") == ""
    assert ran(shared) == {
        "first": ["clone"],
        "train-a": ["clone", "clone", "clone-on-demand"],
        "train-b": ["clone", "clone", "clone-on-demand"],
        "compare": ["clone"],
    }
    worker.kill()


def set_rate(coordinator: Path, rate: int) -> None:
    """Have the trainings run again."""
    params = (coordinator / "params.yaml").read_text()
    (coordinator / "params.yaml").write_text(re.sub("rate: .*", f"rate: {rate}", params))


def commit(coordinator: Path) -> None:
    git(coordinator, "add", "--all")
    git(coordinator, "commit", "--quiet", "--message", "another rate")


def test_each_stage_runs_once_on_a_free_worker_and_all_comes_back(farm: Path, workers: dict[str, Worker]) -> None:
    coordinator = farm / "coordinator"
    (farm / "together").touch()
    state = run_in(coordinator)
    (farm / "together").unlink()
    assert state.message == "4 stages are up to date (4 ran, 0 cached)"
    found = ran(farm)
    # What DVC does not cache cannot come back, so it runs where it is wanted.
    assert found.pop("compare") == ["coordinator"]
    assert sorted(found.pop("train-a") + found.pop("train-b")) == ["one", "two"]
    assert list(found) == ["first"]
    assert len(found["first"]) == 1
    assert [(coordinator / f"train-{name}.txt").read_text() for name in "ab"] == ["train-a", "train-b"]
    with contextlib.chdir(coordinator):
        assert outdated(read_graph()) == set()


def test_what_is_not_pushed_and_what_fails_on_its_worker_is_said(farm: Path, workers: dict[str, Worker]) -> None:
    """Other parameters are for workers to see only once they are committed and pushed."""
    coordinator = farm / "coordinator"
    set_rate(coordinator, 2)
    assert run_in(coordinator, "train@a").message == (
        "params.yaml differs from the last commit, and workers run what is committed; commit or stash that first"
    )
    commit(coordinator)
    state = run_in(coordinator, "train@a")
    assert (state.message or "").startswith("failed: train@a (on its worker: commit "), state.message
    assert "run `git push` where it was made" in (stage_run("train@a").state or state).message
    git(coordinator, "push", "--quiet")
    (farm / "fail-train-a").touch()
    before = ran(farm).get("first")
    state = run_in(coordinator, "train@a")
    (farm / "fail-train-a").unlink()
    assert (state.message or "").startswith("failed: train@a (on its worker: ")
    broken, log = stage_run("train@a"), workers["one"].log
    with get_client(sync_client=True) as client:
        chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[broken.id]))
        said = "data: train-a is broken"
        wait_for("it has no log", lambda: said in {line.message for line in client.read_logs(chosen)}, log)
    assert ran(farm).get("first") == before
    # What failed is a stage, not the program.
    shown = "".join(worker.log.read_text() for worker in workers.values())
    assert "Finished in state Failed(" in shown
    assert "Traceback" not in shown


def test_killed_workers_and_a_killed_flow_leave_no_process_and_the_next_run_goes_on(
    prefect: Prefect, farm: Path, workers: dict[str, Worker]
) -> None:
    coordinator = farm / "coordinator"
    set_rate(coordinator, 3)
    commit(coordinator)
    git(coordinator, "push", "--quiet")
    (farm / "ran.log").unlink(missing_ok=True)
    (farm / "slow").touch()
    log = farm / "flow.log"
    flow = prefect.start(["flows.compare", "--pool", "stages", "--jobs", "2"], coordinator, log)
    wait_for("the trainings do not begin", lambda: {"train-a", "train-b"} <= set(ran(farm)), log)
    (killed,) = ran(farm)["train-a"]
    workers[killed].kill()
    wait_for("a process is left", lambda: not workers[killed].left(), log)
    wait_for("the flow has not noticed", lambda: "train@a: failed after" in log.read_text(), log)
    (other,) = ran(farm)["train-b"]
    assert workers[other].left()
    flow.kill()
    flow.wait()
    wait_for("a process is left", lambda: not workers[other].left(), log)
    states = [ended(stage_run(name), log).state_name for name in ("train@a", "train@b")]
    assert states == ["Crashed", "Cancelled"]

    (farm / "slow").unlink()
    state = run_in(coordinator)
    assert (state.message or "").startswith("4 stages are up to date ("), state.message
    counts = {stage: len(folders) for stage, folders in ran(farm).items()}
    # Other stages need not run if they have before: a rate is for the trainings alone.
    assert (counts["train-a"], counts["train-b"], max(counts.values())) == (2, 2, 2)
    assert counts.get("first", 0) <= 1


def test_a_pool_that_runs_no_stages_and_a_worker_in_the_wrong_folder_are_refused(
    prefect: Prefect, shared: Path
) -> None:
    said: list[str | None] = []

    @flow
    def coordinate() -> None:
        with workspace.exclusive(print):
            said.append(run_stage("first", git(Path(), "rev-parse", "HEAD"), return_state=True).message)

    with contextlib.chdir(clone(shared, "coordinator")):
        state: State[Any] = compare((), 2, False, "comparison", return_state=True)
        assert (state.message or "").startswith("work pool 'comparison' has no deployment of flow 'stage'; ")
        coordinate()
    assert said == ["this worker was started in the folder of the flow that waits for it; give it its own clone"]
    assert ran(shared) == {}


def test_a_pool_needs_a_server_that_its_workers_know(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.chdir(clone(shared, "coordinator")), temporary_settings({PREFECT_API_URL: None}):
        assert main(["--pool", "stages"]) == 1
    said = "no Prefect server is configured; expected the one that the workers use; set PREFECT_API_URL"
    assert capsys.readouterr().err == f"flow: {said}\n"
