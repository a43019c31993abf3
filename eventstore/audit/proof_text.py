"""The texts of proofs, in forms that other tools for transparency logs read and write.

An inclusion proof is c2sp.org/tlog-proof: a record is given as the extra data. A consistency proof
is the body of a request that asks a witness for a cosignature (c2sp.org/tlog-witness): whoever
checks it has the older checkpoint.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eventstore.audit.signed_note import decoded_base64
from eventstore.errors import InvalidArgumentError
from eventstore.log.merkle import HASH_BYTES

INCLUSION_HEADER: Final = "c2sp.org/tlog-proof@v1"
CONSISTENCY_WORD: Final = "old"

_NUMBER: Final = "0|[1-9][0-9]{0,18}"
_NUMBER_MAX: Final = 2**63 - 1
_PATH_MAX: Final = 63


@dataclass(frozen=True, slots=True)
class InclusionText:
    """What an inclusion proof's text says; `index` counts from 0."""

    extra: bytes | None
    index: int
    path: tuple[bytes, ...]
    checkpoint: str

    def __str__(self) -> str:
        extra = [] if self.extra is None else [f"extra {base64.b64encode(self.extra).decode()}"]
        lines = [INCLUSION_HEADER, *extra, f"index {self.index}", *_path_lines(self.path)]
        return "\n".join(lines) + f"\n\n{self.checkpoint}"

    @classmethod
    def parse(cls, text: str) -> InclusionText:
        """Raises InvalidArgumentError for anything but what `str` gives."""
        lines, checkpoint = _parts(text, f"an inclusion proof ({INCLUSION_HEADER})")
        if lines.pop(0) != INCLUSION_HEADER:
            raise InvalidArgumentError(
                f"not an inclusion proof: it does not begin with {INCLUSION_HEADER}"
            )
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = decoded_base64(lines.pop(0).removeprefix("extra "))
            if extra is None:
                raise InvalidArgumentError("the proof's extra data is not base64 as it is encoded")
        if not lines:
            raise InvalidArgumentError("the proof has no index")
        return cls(extra, _number(lines.pop(0), "index"), _path(lines), checkpoint)


@dataclass(frozen=True, slots=True)
class ConsistencyText:
    """What a consistency proof's text says; `older` is the size of the older tree."""

    older: int
    path: tuple[bytes, ...]
    checkpoint: str

    def __str__(self) -> str:
        lines = [f"{CONSISTENCY_WORD} {self.older}", *_path_lines(self.path)]
        return "\n".join(lines) + f"\n\n{self.checkpoint}"

    @classmethod
    def parse(cls, text: str) -> ConsistencyText:
        """Raises InvalidArgumentError for anything but what `str` gives."""
        lines, checkpoint = _parts(text, "a consistency proof")
        return cls(_number(lines.pop(0), CONSISTENCY_WORD), _path(lines), checkpoint)


def _parts(text: str, what: str) -> tuple[list[str], str]:
    """The lines in front of the first empty one, and the checkpoint after it."""
    lines, separator, checkpoint = text.partition("\n\n")
    if not separator:
        raise InvalidArgumentError(f"not {what}: lines, an empty line and a checkpoint")
    return lines.split("\n"), checkpoint


def _number(line: str, word: str) -> int:
    found = re.fullmatch(f"{word} ({_NUMBER})", line)
    if found is None or int(found[1]) > _NUMBER_MAX:
        raise InvalidArgumentError(f"not a proof: `{word}` and a number, not {line[:80]!r}")
    return int(found[1])


def _path(lines: Sequence[str]) -> tuple[bytes, ...]:
    if len(lines) > _PATH_MAX:
        raise InvalidArgumentError(f"the proof's path has more than {_PATH_MAX} hashes")
    return tuple(_hash(line) for line in lines)


def _hash(line: str) -> bytes:
    decoded = decoded_base64(line)
    if decoded is None or len(decoded) != HASH_BYTES:
        raise InvalidArgumentError(f"not a hash of {HASH_BYTES} bytes in base64: {line[:80]!r}")
    return decoded


def _path_lines(path: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(node).decode() for node in path]
