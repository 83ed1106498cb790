"""What a module of this repository imports, directly and through others, read from the source text."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def closure(module: str) -> set[str]:
    """Return the files, relative to the repository, that `module` runs: its own and all it imports of ours.

    Imports inside functions count, those for type checkers alone do not.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        path = _file(waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
        waiting += _imported(path)
    # A package's docstring changes nothing.
    return {path for path in found if not path.endswith("__init__.py")}


def _file(module: str) -> str | None:
    path = module.replace(".", "/")
    for candidate in (f"{path}.py", f"{path}/__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None


@cache
def _imported(path: str) -> list[str]:
    """Return the modules of ours that a file imports."""
    return _imports(ast.parse((ROOT / path).read_text(encoding="utf-8")))


def _imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += _imports(node)
    return [module for module in found if module.startswith(("stages", "flows"))]
