"""What a run ran on: the version of the code, and the environment."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_GIT_SECONDS = 5


def surroundings() -> dict[str, Any]:
    """Custom properties of a run; what cannot be found out is left out.

    `git_commit`, `git_branch`, `git_remote` (without user and password) and `git_dirty` are those
    of the repository of the main program. `environment` has `python`, `platform`, `host`,
    `program` and `packages`: the versions of the distributions that are imported.
    """
    program = _program()
    folder = program.parent if program is not None else Path.cwd()
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "packages": _imported_versions(),
    }
    if program is not None:
        environment["program"] = str(program)
    return {**_code_version(folder), "environment": environment}


def _program() -> Path | None:
    """The file of the main program; None in a notebook or an interpreter."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).resolve() if file else None


def _code_version(folder: Path) -> Mapping[str, Any]:
    git = shutil.which("git")
    commit = _git_answer(git, folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return {}
    found: dict[str, Any] = {"git_commit": commit}
    branch = _git_answer(git, folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    remote = _git_answer(git, folder, "config", "--get", "remote.origin.url")
    status = _git_answer(git, folder, "status", "--porcelain", "--untracked-files=no")
    if branch:
        found["git_branch"] = branch
    if remote:
        found["git_remote"] = _without_credentials(remote)
    if status is not None:
        found["git_dirty"] = bool(status)
    return found


def _git_answer(git: str | None, folder: Path, *arguments: str) -> str | None:
    """What git prints; None when it fails, is missing, or takes too long."""
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603
            [git, "-C", str(folder), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
            check=False,
            # Reading the state must not write to the repository.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _without_credentials(remote: str) -> str:
    parts = urlsplit(remote)
    if not parts.scheme or "@" not in parts.netloc:
        return remote
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _imported_versions() -> dict[str, str]:
    """The version of each distribution of which a module is imported."""
    imported = {name.partition(".")[0] for name in sys.modules}
    distributions = _distributions()
    names = {name for module in imported for name in distributions.get(module, ())}
    return {name: _version(name) for name in sorted(names)}


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
