"""What a disk may hold after a loss of power, made from a trace of the operations before it.

A file's data and size reach the disk when the file is synced, names when their directory is. Of
what was not synced any part may be there: every sector of a write, every cut, every name on its
own; a file may have any size that it had since. A rename within a directory is there or is not.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.faults.layer import Kind

SECTOR = 512

_HEAD = struct.Struct("=6Q")


class Event(NamedTuple):
    """One operation; paths are relative to the root, None for the mark's."""

    kind: Kind
    inode: int
    offset: int
    path: tuple[str, ...]
    other: tuple[str, ...]
    data: bytes


def read_trace(trace: bytes, root: Path) -> Iterator[Event]:
    at = 0

    def part(size: int) -> bytes:
        nonlocal at
        at += size
        return trace[at - size : at]

    while at < len(trace):
        kind, inode, offset, path, other, size = _HEAD.unpack(part(_HEAD.size))
        names = [_relative(part(length), root) for length in (path, other)]
        yield Event(Kind(kind), inode, offset, names[0], names[1], part(size))


def _relative(path: bytes, root: Path) -> tuple[str, ...]:
    return Path(path.decode()).relative_to(root).parts if path else ()


@dataclass
class File:
    """`synced` is on disk; `pending` are (offset, data), or (size, None) where it was cut."""

    synced: bytes = b""
    size: int = 0
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def change(self, offset: int, data: bytes | None) -> None:
        self.pending.append((offset, data))
        self.size = offset if data is None else max(self.size, offset + len(data))
        self.sizes.append(self.size)

    def sync(self) -> None:
        self.synced = self.content(Keep.ALL, random.Random(0))
        self.pending, self.sizes = [], []

    def content(self, keep: Keep, chance: random.Random) -> bytes:
        content = bytearray(self.synced)
        for offset, data in self.pending:
            if data is None:
                if keep.data(chance):
                    del content[offset:]
                    content.extend(bytes(max(0, offset - len(content))))
                continue
            start = offset
            while start < offset + len(data):
                end = min((start // SECTOR + 1) * SECTOR, offset + len(data))
                if keep.data(chance):
                    content.extend(bytes(max(0, end - len(content))))
                    content[start:end] = data[start - offset : end - offset]
                start = end
        size = keep.size([len(self.synced), *self.sizes], chance)
        return bytes(content[:size]) + bytes(max(0, size - len(content)))


@dataclass
class Folder:
    """Names on disk, names as they are, and the changes between: each of some names at once."""

    synced: dict[str, Thing] = field(default_factory=dict)
    names: dict[str, Thing] = field(default_factory=dict)
    pending: list[dict[str, Thing | None]] = field(default_factory=list)

    def change(self, names: dict[str, Thing | None]) -> None:
        self.pending.append(names)
        _apply(self.names, names)

    def sync(self) -> None:
        self.synced, self.pending = dict(self.names), []

    def kept(self, keep: Keep, chance: random.Random) -> dict[str, Thing]:
        names = dict(self.synced)
        for change in self.pending:
            if keep.name(chance):
                _apply(names, change)
        return names


Thing = File | Folder


def _apply(names: dict[str, Thing], change: dict[str, Thing | None]) -> None:
    for name, thing in change.items():
        if thing is None:
            names.pop(name, None)
        else:
            names[name] = thing


class Keep:
    """What is left of unsynced changes after the loss: all, nothing, or a random part."""

    ALL: Keep
    NOTHING: Keep
    NAMES: Keep
    DATA: Keep

    def __init__(self, data: float, name: float) -> None:
        self._data, self._name = data, name

    def data(self, chance: random.Random) -> bool:
        return chance.random() < self._data

    def name(self, chance: random.Random) -> bool:
        return chance.random() < self._name

    def size(self, sizes: list[int], chance: random.Random) -> int:
        if self._data in (0.0, 1.0):
            return sizes[int(self._data) * -1]
        return chance.choice(sizes)


Keep.ALL, Keep.NOTHING = Keep(1, 1), Keep(0, 0)
Keep.NAMES, Keep.DATA = Keep(0, 1), Keep(1, 0)


class Disk:
    """The files and folders below a root."""

    def __init__(self, root: Path) -> None:
        """As the root is now, all of it synced."""
        # By inode, whose number is given to something else when one is removed.
        self._things: dict[int, Thing] = {}
        self._root = self._load(root)

    def _load(self, path: Path) -> Thing:
        thing: Thing
        if path.is_dir():
            names = {child.name: self._load(child) for child in path.iterdir()}
            thing = Folder(dict(names), dict(names))
        else:
            content = path.read_bytes()
            thing = File(content, len(content))
        self._things[path.stat().st_ino] = thing
        return thing

    def happen(self, event: Event) -> None:
        match event.kind:
            case Kind.CREATE | Kind.MKDIR:
                made = File() if event.kind is Kind.CREATE else Folder()
                self._things[event.inode] = made
                self._folder(event.path).change({event.path[-1]: made})
            case Kind.WRITE:
                self._file(event.inode).change(event.offset, event.data)
            case Kind.TRUNCATE:
                self._file(event.inode).change(event.offset, None)
            case Kind.SYNC:
                self._things[event.inode].sync()
            case Kind.UNLINK | Kind.RMDIR:
                self._folder(event.path).change({event.path[-1]: None})
            case Kind.RENAME:
                folder, name, other = self._folder(event.path), event.path[-1], event.other[-1]
                assert folder is self._folder(event.other), "from one directory into another"
                folder.change({name: None, other: folder.names[name]})
            case Kind.MARK:
                pass

    def lay_out(self, root: Path, keep: Keep, chance: random.Random) -> None:
        """Write what may be left into an empty directory."""
        _lay_out(root, self._root, keep, chance)

    def _file(self, inode: int) -> File:
        found = self._things[inode]
        assert isinstance(found, File)
        return found

    def _folder(self, path: tuple[str, ...]) -> Folder:
        """The folder that a path lies in."""
        found = self._root
        for name in path[:-1]:
            assert isinstance(found, Folder)
            found = found.names[name]
        assert isinstance(found, Folder)
        return found


def _lay_out(path: Path, thing: Thing, keep: Keep, chance: random.Random) -> None:
    if isinstance(thing, File):
        path.write_bytes(thing.content(keep, chance))
        return
    path.mkdir(exist_ok=True)
    for name, child in sorted(thing.kept(keep, chance).items()):
        _lay_out(path / name, child, keep, chance)
