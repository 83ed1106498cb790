"""Git's commands, run as programs: differences from the last commit, commits, and worktrees."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from flows.graph import FlowError
from flows.process import clean, environment
from flows.redaction import redact


def head() -> str:
    """Return the id of the last commit. Raise FlowError when there is none."""
    return _git("rev-parse", "--verify", "HEAD").strip()


def branch() -> str:
    """Return the current branch. Raise FlowError when HEAD is detached."""
    try:
        return _git("symbolic-ref", "--quiet", "--short", "HEAD").strip()
    except FlowError:
        raise FlowError(
            "git has no branch checked out here (HEAD is detached), so a commit would be lost; run `git switch BRANCH`"
        ) from None


def require_author() -> None:
    """Raise FlowError when git does not know the author of commits."""
    try:
        _git("var", "GIT_COMMITTER_IDENT")
    except FlowError:
        raise FlowError(
            "git does not know the author; run `git config user.name NAME` and `git config user.email ADDRESS` here"
        ) from None


def require_signature() -> None:
    """Raise FlowError when git is to sign commits and cannot, as where nobody can enter a passphrase."""
    if _git("config", "--type=bool", "--default=false", "--get", "commit.gpgsign").strip() == "false":
        return
    try:
        # A commit that belongs to no branch.
        _git("commit-tree", "-S", "-m", "signature", "HEAD^{tree}")
    except FlowError as error:
        raise FlowError(
            f"git cannot sign commits here ({error}); run `git config commit.gpgsign false` here, "
            "or set user.signingkey to a key without a passphrase"
        ) from None


def changed() -> list[str]:
    """Return the tracked files, here and below, that differ from the last commit, staged or not."""
    return _names("diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD")


def committed(name: str) -> str:
    """Return the content of a file in the last commit, or an empty string if it has no such file."""
    try:
        return _git("show", f"HEAD:./{name}")
    except FlowError:
        return ""


def untracked(paths: Iterable[str]) -> list[str]:
    """Return the files at or below `paths` that git neither tracks nor ignores."""
    # Without paths git would list all of them.
    return _names("ls-files", "-z", "--others", "--exclude-standard", "--", *paths) if paths else []


def dvc_files() -> list[str]:
    """Return the `.dvc` files, here and below, in which DVC records data; it reads none that git ignores."""
    return [name for name in _names("ls-files", "-z", "--cached", "--others", "--exclude-standard") if _is_data(name)]


def commit(files: Sequence[str], message: str) -> str:
    """Commit these `files`, which may be new, changed or deleted, and nothing else; return the commit's id."""
    names = "\0".join(files)
    given = ("--pathspec-from-file=-", "--pathspec-file-nul")
    _git("add", *given, standard_input=names)
    _git("commit", "--quiet", "--only", "--message", message, *given, standard_input=names)
    return head()


def reset(new: Sequence[str]) -> None:
    """Restore every tracked file, here and below, from the last commit, and delete these `new` ones."""
    _git("checkout", "--quiet", "HEAD", "--", ".")
    if new:
        _git("clean", "--force", "--quiet", "--", *new)


def check_out(commit: str) -> None:
    """Check out `commit`, fetching it if necessary. Raise FlowError when it is unavailable."""
    if not _known(commit):
        try:
            # By its id: the clone may be shallow, or have a single branch.
            _git("fetch", "--quiet", "origin", commit)
        except FlowError as error:
            raise FlowError(f"commit {commit} is unavailable; run `git push` where it was made; {error}") from None
    _git("checkout", "--quiet", "--detach", commit)


def top() -> tuple[Path, str]:
    """Return the folder of the worktree, and this folder's path in it."""
    return Path(_git("rev-parse", "--show-toplevel").rstrip("\n")), _git("rev-parse", "--show-prefix").rstrip("\n")


def work_trees() -> list[Path]:
    """Return the folders of this repository's worktrees, including those deleted by hand."""
    lines = _git("worktree", "list", "--porcelain").splitlines()
    return [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]


def repair_work_tree(folder: Path) -> None:
    """Have this repository and its worktree `folder` know each other again, where both were moved."""
    _git("worktree", "repair", str(folder))


def add_work_tree(folder: Path) -> None:
    """Check the last commit out into `folder`, which does not exist."""
    _git("worktree", "prune")
    _git("worktree", "add", "--quiet", "--detach", str(folder))


def is_reference(name: str) -> bool:
    """Return whether git accepts `name` as the last component of a reference."""
    try:
        _git("check-ref-format", f"refs/heads/{name}")
    except FlowError:
        return False
    return "/" not in name


def _known(commit: str) -> bool:
    try:
        _git("cat-file", "-e", f"{commit}^{{commit}}")
    except FlowError:
        return False
    return True


def _is_data(name: str) -> bool:
    path = Path(name)
    return path.suffix == ".dvc" and path.is_file()


def _names(*arguments: str) -> list[str]:
    return [name for name in _git(*arguments).split("\0") if name]


def _git(*arguments: str, standard_input: str = "") -> str:
    """Return the output of a git command. Raise FlowError when it fails."""
    done = subprocess.run(
        ["git", "--literal-pathspecs", *arguments],
        # Nobody can answer when a remote asks for a password.
        env={**environment(), "GIT_TERMINAL_PROMPT": "0"},
        input=standard_input,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
    if done.returncode:
        said = " ".join(" ".join(redact(clean(line)) for line in done.stderr.splitlines()).split())
        raise FlowError(f"`git {arguments[0]}` failed: {said or f'exit code {done.returncode}'}")
    return done.stdout
