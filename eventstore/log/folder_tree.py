"""Walk and remove folders of any depth: Python's own ways call themselves for each level."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from eventstore.log.regular_file import is_irregular


def entries_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All that is in a folder, each folder before what is in it. Links are not followed.

    What may not be looked into has nothing in it.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it, or a pipe in its place, but no target of a link.

    Raises OSError when something stays, unless it is to ignore that.
    """
    import shutil

    if is_irregular(folder):
        # To look into a pipe would be to wait for who writes to it.
        with contextlib.suppress(OSError) if ignore_errors else contextlib.nullcontext():
            os.unlink(folder)
        return
    # It is safe where others exchange folders and links meanwhile, but only so deep.
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=ignore_errors)
        return
    folders = [os.fspath(folder)]
    for entry in entries_below(folder):
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        else:
            # Of what stays, its folder tells.
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
    for path in reversed(folders):
        try:
            os.rmdir(path)
        except OSError:
            if not ignore_errors:
                raise
