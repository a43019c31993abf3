"""Between format versions of a store: 1, a directory, and 0, the same directory in one file.

Version 0 is the form to hand a store on in: an uncompressed zip archive of the manifest and the
sealed segments. Nothing is lost either way; a packed store is opened, and unpacked in place, with
`MetadataStore(config, enable_upgrade_migration=True)`.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.manifest import FORMAT_VERSION, MANIFEST_NAME, sync_directory
from eventstore.log.os_errors import translated
from eventstore.log.verification import verify_directory
from eventstore.metadata_store.opening import configured_path, is_packed
from eventstore.proto import metadata_store_pb2 as mlmd

PACKED_VERSION = 0

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def downgrade_schema(config: mlmd.ConnectionConfig, downgrade_to_schema_version: int) -> None:
    """Bring the store that `config` names to an older format version; nobody else may have it open.

    Version 1 is the newest. Version 0 packs the store into one file at its path.

    Raises InvalidArgumentError for a version that there is not, RuntimeError without a store.
    """
    if downgrade_to_schema_version < 0:
        raise errors.InvalidArgumentError(
            f"downgrade_to_schema_version not specified: it is {downgrade_to_schema_version}"
        )
    if downgrade_to_schema_version > FORMAT_VERSION:
        raise errors.InvalidArgumentError(
            f"MLMD cannot be downgraded to schema_version {downgrade_to_schema_version}: the "
            f"format versions of this store are {PACKED_VERSION} and {FORMAT_VERSION}"
        )
    try:
        path = configured_path(config)
        if is_packed(path):
            if downgrade_to_schema_version == FORMAT_VERSION:
                raise errors.FailedPreconditionError(
                    f"{path} has format version {PACKED_VERSION}, which is older: open it with "
                    "enable_upgrade_migration"
                )
            return
        log = DirectoryLog.open(path)
        try:
            log.seal()
        finally:
            log.close()
        if downgrade_to_schema_version == PACKED_VERSION:
            _pack(path)
    except errors.StatusError as error:
        raise RuntimeError(error.message) from error


def unpack(path: Path) -> None:
    """Turn a packed store into its directory, at the same path.

    Raises DataLossError when the archive or what is in it is damaged; the file is kept then.
    """
    unpacked = path.with_name(f".{path.name}.unpacking-{os.getpid()}")
    packed = path.with_name(f".{path.name}.packed-{os.getpid()}")
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(unpacked)
        report = verify_directory(unpacked)
        if not report.ok:
            raise errors.DataLossError(f"the packed store {path}: {report.findings[0].what}")
        os.replace(path, packed)
        os.replace(unpacked, path)
        sync_directory(path.absolute().parent)
        packed.unlink()
    except zipfile.BadZipFile as error:
        raise errors.DataLossError(f"the packed store {path} is damaged: {error}") from None
    except OSError as error:
        raise translated(error, "unpacking", path) from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _pack(path: Path) -> None:
    packing = path.with_name(f".{path.name}.packing-{os.getpid()}")
    replaced = path.with_name(f".{path.name}.unpacked-{os.getpid()}")
    try:
        with zipfile.ZipFile(packing, "w", zipfile.ZIP_STORED) as archive:
            for source in (path / MANIFEST_NAME, *sorted((path / "log").iterdir())):
                member = zipfile.ZipInfo(source.relative_to(path).as_posix(), _ZIP_TIME)
                archive.writestr(member, source.read_bytes())
        with open(packing, "rb") as file:
            os.fsync(file.fileno())
        os.replace(path, replaced)
        os.replace(packing, path)
        sync_directory(path.absolute().parent)
        shutil.rmtree(replaced)
    except OSError as error:
        raise translated(error, "packing", path) from None
    finally:
        packing.unlink(missing_ok=True)
