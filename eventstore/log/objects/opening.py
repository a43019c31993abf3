"""Find or make the log that a URL of object storage names."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import msgspec

from eventstore import errors
from eventstore.log.manifest import FORMAT_VERSION
from eventstore.log.objects.bucket import Bucket, Listed
from eventstore.log.objects.connecting import of_url
from eventstore.log.objects.keys import STORE
from eventstore.log.objects.object_log import ObjectLog
from eventstore.log.places import StoreUrl
from eventstore.log.remote.remote_log import SEGMENT_RECORDS_MAX
from eventstore.times import Microseconds, now_in_microseconds


class _Store(msgspec.Struct, frozen=True, kw_only=True):
    format_version: int
    store_id: UUID
    created_at: Microseconds


class _FormatVersion(msgspec.Struct, frozen=True):
    format_version: int


def open_url(
    url: StoreUrl,
    *,
    read_only: bool,
    creates: bool,
    cache_folder: Path | None,
    store_id: UUID | None = None,
) -> ObjectLog:
    """The log at a URL, as `eventstore.log.places.OpensLog` describes it.

    Raises what `connecting.of_url` and `open_bucket` do.
    """
    bucket = of_url(url.revealed())
    return open_bucket(
        bucket,
        read_only=read_only,
        creates=creates,
        cache_folder=cache_folder,
        new_id=store_id,
    )


def open_bucket(
    bucket: Bucket,
    *,
    read_only: bool = False,
    creates: bool = True,
    cache_folder: Path | None = None,
    new_id: UUID | None = None,
    segment_records_max: int = SEGMENT_RECORDS_MAX,
) -> ObjectLog:
    """The log below a prefix, which is made where there is nothing and `creates` allows it.

    `new_id` is the store's id then, else a new one. Its caches lie below `cache_folder`, or where
    the user's usually do.

    Raises NotFoundError when there is no log, FailedPreconditionError for other objects, a store at
    a prefix above or below, a newer format or a service that knows no conditions,
    PermissionDeniedError where it may not be made, and what `Bucket` does.
    """
    store = _store(bucket)
    if store is None and creates and not read_only:
        store = _made(bucket, new_id or uuid4())
    if store is None:
        raise errors.NotFoundError(
            f"there is no store at {bucket.name}: check the prefix, or create one"
        )
    return ObjectLog(
        bucket,
        store.store_id,
        store.created_at,
        cache_folder=cache_folder,
        read_only=read_only,
        segment_records_max=segment_records_max,
    )


def _store(bucket: Bucket) -> _Store | None:
    """What is said of the store below a prefix; None when there is none."""
    content = bucket.get(STORE)
    if content is None:
        return None
    try:
        version = msgspec.json.decode(content, type=_FormatVersion).format_version
        if version == FORMAT_VERSION:
            return msgspec.json.decode(content, type=_Store)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise errors.FailedPreconditionError(
            f"{bucket.name}/{STORE} is not that of a store: name another prefix"
        ) from None
    reads = f"reads {'up to ' if version > FORMAT_VERSION else ''}{FORMAT_VERSION}"
    raise errors.FailedPreconditionError(
        f"{bucket.name} has format version {version}; this version {reads}: "
        f"{'upgrade' if version > FORMAT_VERSION else 'use an older'} mlmd-eventstore"
    )


def refuse_within(bucket: Bucket | None) -> None:
    """Raise FailedPreconditionError where a store is at a prefix, or at one above it."""
    while bucket is not None:
        # Who may not read there has no store there.
        with contextlib.suppress(errors.PermissionDeniedError):
            if bucket.get(STORE) is not None:
                raise errors.FailedPreconditionError(
                    f"{bucket.name} is a store, below whose prefix there is nothing else: name a "
                    "prefix that is beside it"
                )
        bucket = bucket.above()


def _what_else(listed: Sequence[Listed]) -> str:
    """What lies below a prefix at which there is no store."""
    for one in listed:
        folder, _, name = one.key.rpartition("/")
        if name == STORE:
            return f"the store {folder}, and so can be none itself"
    return "other objects and no store"


def _made(bucket: Bucket, new_id: UUID) -> _Store | None:
    """Make a store; what is said of it, or of the one that another process has made."""
    listed = bucket.list("")
    if listed:
        found = _store(bucket)
        if found is None:
            raise errors.FailedPreconditionError(
                f"{bucket.name} holds {_what_else(listed)}: name another prefix"
            )
        return found
    refuse_within(bucket.above())
    store = _Store(format_version=FORMAT_VERSION, store_id=new_id, created_at=now_in_microseconds())
    bucket.create(STORE, msgspec.json.encode(store))
    if bucket.writes_over(STORE, b"null"):
        raise errors.FailedPreconditionError(
            f"{bucket.name} writes over objects that are to be made only if there are none "
            "(If-None-Match), so that two writers could have one position: use another service"
        )
    return _store(bucket)
