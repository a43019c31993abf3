"""The append-only log: the only source of truth. It knows records and commits, and no queries."""

from eventstore.log.directory import DirectoryLog
from eventstore.log.log import (
    Finding,
    Log,
    PositionConflictError,
    Progress,
    RewrittenFile,
    SealedFile,
    SegmentInfo,
    SignedHead,
    VerifyReport,
    content_id,
    has_lost_files,
)
from eventstore.log.manifest import FORMAT_VERSION
from eventstore.log.memory import MemoryLog
from eventstore.log.record import Commit, Draft, Position, Record
from eventstore.log.scattered import records_at

__all__ = [
    "FORMAT_VERSION",
    "Commit",
    "DirectoryLog",
    "Draft",
    "Finding",
    "Log",
    "MemoryLog",
    "Position",
    "PositionConflictError",
    "Progress",
    "Record",
    "RewrittenFile",
    "SealedFile",
    "SegmentInfo",
    "SignedHead",
    "VerifyReport",
    "content_id",
    "has_lost_files",
    "records_at",
]
