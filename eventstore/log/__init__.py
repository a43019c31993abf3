"""The append-only log: the only source of truth. It knows records and commits, and no queries."""

from eventstore.log.directory import DirectoryLog
from eventstore.log.log import (
    Finding,
    Log,
    PositionConflictError,
    Progress,
    SegmentInfo,
    SignedHead,
    VerifyReport,
)
from eventstore.log.memory import MemoryLog
from eventstore.log.record import Commit, Draft, Record

__all__ = [
    "Commit",
    "DirectoryLog",
    "Draft",
    "Finding",
    "Log",
    "MemoryLog",
    "PositionConflictError",
    "Progress",
    "Record",
    "SegmentInfo",
    "SignedHead",
    "VerifyReport",
]
