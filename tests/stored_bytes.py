"""What lies in the files of a store, with what Parquet compresses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from eventstore.log.thrift import read_struct


def files_with(folder: Path, marker: bytes) -> list[str]:
    """The names of the files below a folder that have a text in any byte or page."""
    return sorted(
        path.name for path in folder.rglob("*") if path.is_file() and marker in stored_bytes(path)
    )


def stored_bytes(path: Path) -> bytes:
    """The bytes of a file, and after them each page, if it is Parquet, decompressed."""
    content = path.read_bytes()
    if content[:4] != b"PAR1":
        return content
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    pages, offset = [], 4
    while offset < footer:
        header, start = read_struct(content, offset)
        offset = start + header[3]
        if header[2]:
            page = pa.decompress(content[start:offset], header[2], codec="zstd", asbytes=True)
            pages.append(page)
    return b"\n".join([content, *pages])
