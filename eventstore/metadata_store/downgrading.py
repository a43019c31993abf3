"""Between format versions of a store: 2, a directory, and 0, the same directory in one file.

Version 0 is the form to hand a store on in, with all of it sealed. Nothing is lost either way; a
packed store is opened, and unpacked in place, with
`MetadataStore(config, enable_upgrade_migration=True)`.
"""

from __future__ import annotations

from eventstore import errors
from eventstore.log import FORMAT_VERSION
from eventstore.log.os_errors import resolved, translating
from eventstore.log.packing import PACKED_VERSION, is_packed, pack
from eventstore.log.stores import open_log, settle
from eventstore.metadata_store.opening import configured_path
from eventstore.proto import metadata_store_pb2 as mlmd


def downgrade_schema(config: mlmd.ConnectionConfig, downgrade_to_schema_version: int) -> None:
    """Bring the store that `config` names to an older format version; nobody else may have it open.

    Version 2 is the newest. Version 0 packs the store into one file at its path.

    Raises InvalidArgumentError for a version that there is not, RuntimeError when the store cannot
    be opened or brought to it.
    """
    if downgrade_to_schema_version < 0:
        raise errors.InvalidArgumentError(
            f"downgrade_to_schema_version not specified: it is {downgrade_to_schema_version}"
        )
    if downgrade_to_schema_version not in (PACKED_VERSION, FORMAT_VERSION):
        raise errors.InvalidArgumentError(
            f"MLMD cannot be downgraded to schema_version {downgrade_to_schema_version}: the "
            f"format versions of this store are {PACKED_VERSION} and {FORMAT_VERSION}"
        )
    try:
        path = resolved(configured_path(config))
        with translating("packing", path):
            settle(path)
            is_packed_already = is_packed(path)
        if is_packed_already:
            if downgrade_to_schema_version == FORMAT_VERSION:
                raise errors.FailedPreconditionError(
                    f"{path} has format version {PACKED_VERSION}, which is older: open it with "
                    "enable_upgrade_migration"
                )
            return
        log = open_log(path)
        try:
            log.seal()
        finally:
            log.close()
        if downgrade_to_schema_version == PACKED_VERSION:
            pack(path)
    except errors.StatusError as error:
        raise RuntimeError(error.message) from error
