"""Style sheets, scripts and what else pages load, under an address that changes with them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

FOLDER: Final = Path(__file__).parent / "static"

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@cache
def _files() -> tuple[str, dict[str, Path]]:
    """A hash over all files, and the files by their paths below the folder."""
    found = {
        path.relative_to(FOLDER).as_posix(): path
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _TYPES
    }
    known = hashlib.sha256()
    for name, path in found.items():
        known.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return known.hexdigest()[:16], found


def address_of(name: str, prefix: str = "") -> str:
    """The address of a file; modules import each other by relative paths, under the same hash.

    Raises LookupError for a file that is not there.
    """
    known, found = _files()
    if name not in found:
        raise LookupError(f"{name} is not in {FOLDER}")
    return f"{prefix}/static/{known}/{name}"


async def _answer(request: Request) -> FileResponse:
    path = _files()[1].get(request.path_params["name"])
    if path is None:
        raise HTTPException(404)
    is_current = request.path_params["known"] == _files()[0]
    keeps = "public, max-age=31536000, immutable" if is_current else "no-store"
    return FileResponse(path, headers={"Cache-Control": keeps}, media_type=_TYPES[path.suffix])


ROUTES: Final = (Route("/static/{known}/{name:path}", _answer, methods=["GET"]),)
