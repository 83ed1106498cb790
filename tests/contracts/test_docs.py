"""What README, docs/, data/README.md and CONTRIBUTING.md say holds: paths, links, commands, parameters, tables."""

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.cli.parser import get_main_parser
from markdown_it import MarkdownIt
from markdown_it.token import Token

from docs import parameters
from tests.contracts.closure import ROOT
from tests.contracts.test_pipeline import PARAMS, STAGES, paths, related

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "data/README.md", CONTRIBUTING]
PLACES = r"(?:stages|flows|tests|docs|benchmarks|\.ci|\.dvc|data/samples)"
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def tokens(page: Path) -> list[Token]:
    """Return the tokens of a page, those inside paragraphs and cells among them."""
    found = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    return [part for token in found for part in (token, *(token.children or ()))]


def code(page: Path) -> list[str]:
    """Return what a page has between backticks."""
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def blocks(page: Path, kind: str) -> list[str]:
    return [token.content for token in tokens(page) if token.type == "fence" and token.info == kind]


def commands(program: str) -> list[list[str]]:
    """Return the commands of all pages that begin like this, as their words, without comments."""
    lines = [
        line.removeprefix("$ ") for page in PAGES for text in blocks(page, "console") for line in text.splitlines()
    ]
    words = [shlex.split(line, comments=True) for line in lines]
    return [each for each in words if each[: len(program.split())] == program.split()]


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the table whose header begins with this."""
    table = page.read_text(encoding="utf-8").split(f"\n| {heading} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()[2:]]


def output(command: list[str]) -> str:
    """Return what a command prints, run at the root of the repository; raise CalledProcessError when it fails."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def names(cell: str) -> set[str]:
    """Return the stages that a cell names."""
    return set(re.findall(r"`(\w+)`", cell)) & set(STAGES)


# Pages --------------------------------------------------------------------------------------------------


def test_pages_are_short() -> None:
    lengths = {page.name: len(page.read_text(encoding="utf-8").splitlines()) for page in (README, *DOCS)}
    assert lengths["README.md"] <= 150
    assert {name: length for name, length in lengths.items() if length >= 200} == {}


@each_page
def test_every_path_exists(page: Path) -> None:
    named = re.findall(rf"(?<![\w./]){PLACES}/[\w./]*\w", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


@each_page
def test_every_file_that_is_named_without_its_folder_exists(page: Path) -> None:
    listed = output(["git", "ls-files", "--cached", "--others", "--exclude-standard"])
    known = {Path(line).name for line in listed.splitlines() if (ROOT / line).is_file()}
    named = {text for text in code(page) if re.fullmatch(r"\w+(\.\w+)*\.(py|j2|po)", text)}
    assert named <= known


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        target = str(token.attrGet("href") or token.attrGet("src") or "")
        if target and "://" not in target:
            yield target


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_links_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(README)}
    assert linked >= set(PAGES) - {README}


def test_the_graph_of_the_readme_is_small_and_names_every_stage_but_the_check() -> None:
    (graph,) = blocks(README, "mermaid")
    nodes = set(re.findall(r"(\w+)(?=\[| -->|$)", graph, re.MULTILINE)) - {"LR"}
    assert len(nodes) <= 12
    assert set(STAGES) - set(re.findall(r"\w+", graph)) == {"check"}


def test_the_screenshot_of_the_report_is_small() -> None:
    assert (ROOT / "docs/report.webp").stat().st_size < 150_000


# Commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", commands("dvc"), ids=" ".join)
def test_dvc_knows_every_command_and_option(words: list[str]) -> None:
    get_main_parser().parse_args(words[1:])


@pytest.mark.parametrize("words", commands("dvc repro") + commands("python -m flows.compare"), ids=" ".join)
def test_every_stage_that_a_command_names_is_there(words: list[str]) -> None:
    targets = [word for word in words if word.split("@")[0] in STAGES or "@" in word]
    assert {target.split("@")[0] for target in targets} <= set(STAGES)
    assert {target.split("@")[1] for target in targets if "@" in target} <= set(PARAMS["backbones"])


@pytest.mark.parametrize("module", sorted({words[2] for words in commands("python -m")}))
def test_every_program_has_the_options_that_are_shown(module: str) -> None:
    used = {word for words in commands(f"python -m {module}") for word in words if word.startswith("--")}
    assert used <= set(re.findall(r"--[\w-]+", output([sys.executable, "-m", module, "--help"])))


@each_page
def test_every_program_and_make_target_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^(\w+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE)) <= targets
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module


def test_deployments_that_are_named_are_declared_and_start_what_exists() -> None:
    declared = {each["name"]: each for each in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    for words in commands("prefect deployment run"):
        flow, deployment = words[3].split("/")
        assert flow == deployment
        assert {word.split("=")[0] for word in words[5::2]} <= set(declared[deployment]["parameters"])
    assert {cells[0].strip("`") for cells in rows(ROOT / "docs/operations.md", "deployment")} == set(declared)
    for entry in declared.values():
        module, _, function = entry["entrypoint"].rpartition(".")
        assert hasattr(importlib.import_module(module), function)


@pytest.mark.parametrize("arguments", [["stage", "list"], ["params", "diff"]], ids=" ".join)
def test_dvc_reads_the_graph_and_the_parameters(arguments: list[str]) -> None:
    output([sys.executable, "-m", "dvc", *arguments])


# Parameters ---------------------------------------------------------------------------------------------


def leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    for key, below in value.items():
        if isinstance(below, dict) and below:
            yield from leaves(below, f"{place}{key}.")
        else:
            yield f"{place}{key}", below


def test_the_reference_names_every_parameter_and_its_default() -> None:
    text = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    found = {key: yaml.safe_load(value) for key, value in re.findall(r"(?m)^\| `([\w.]+)` \| `(.*?)` \| \S", text)}
    assert found == {key: value for key, value in leaves(PARAMS, "") if not key.startswith("backbones.")}
    assert "**`backbones`**" in text


def test_the_reference_is_what_make_docs_writes() -> None:
    written = parameters.page((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert parameters.PAGE.read_text(encoding="utf-8") == written


@each_page
def test_every_parameter_that_is_named_exists(page: Path) -> None:
    named = [text.split(":")[0] for text in code(page) if re.match(r"[a-z_]+\.[a-z_.]+(:|$)", text)]
    changed = [key for words in commands("dvc exp run") for key in re.findall(r"([\w.]+)=", " ".join(words))]
    for key in [name for name in named if name.split(".")[0] in PARAMS and "/" not in name] + changed:
        value = PARAMS
        for part in key.split("."):
            assert part in value, key
            value = value[part]


# Tables -------------------------------------------------------------------------------------------------


def test_the_guide_describes_every_stage_in_the_order_of_the_graph() -> None:
    described = [re.findall(r"`(\w+)", cells[0])[0] for cells in rows(ROOT / "docs/guide.md", "stage")]
    assert described == list(STAGES)


def test_contributing_says_what_an_edit_in_a_room_reruns() -> None:
    said = {room: cells[1] for cells in rows(CONTRIBUTING, "an edit in") for room in re.findall(r"`([^`]+)`", cells[0])}
    listing = {room: {stage for stage, entry in STAGES.items() if room in entry["deps"]} for room in said}
    assert said.pop("stages/core") == "every stage"
    assert listing.pop("stages/core") == set(STAGES)
    assert {room: names(cell) for room, cell in said.items()} == listing
    assert {f"stages/{each.parent.name}" for each in (ROOT / "stages").glob("*/__init__.py")} == {*said, "stages/core"}


def test_contributing_names_what_the_code_has() -> None:
    modules = [path for room in ("stages", "tests") for path in (ROOT / room).rglob("*.py")]
    words = {word for path in modules for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    places = " ".join(cells[1] for cells in rows(CONTRIBUTING, "to add"))
    assert set(re.findall(r"`([A-Za-z_]+)`", places)) - words == set()


def touching(kind: str, path: str) -> set[str]:
    """Return the stages that have a path among their `deps` or `outs`, or something in it, or the folder it lies in."""
    return {
        stage
        for stage, entry in STAGES.items()
        if any(related(place.replace("item", "key"), path) for place in paths(entry[kind]))
    }


def test_the_page_about_data_lists_every_artefact_with_the_stages_that_write_and_read_it() -> None:
    listed = {}
    for artefact, _, writers, readers in rows(ROOT / "data/README.md", "artefact"):
        path = re.sub(r"\b(B|NAME)\b", "${key}", artefact.split("`")[1]).rstrip("/")
        listed[path] = (names(writers), names(readers))
    # The rest comes from people and from Prefect.
    made = {path: stages for path, stages in listed.items() if stages[0]}
    assert made == {path: (touching("outs", path), touching("deps", path)) for path in made}
    outs = {out.replace("item", "key") for entry in STAGES.values() for out in paths(entry["outs"])}
    assert {out for out in outs if not any(related(out, path) for path in made)} == set()
