"""Addresses inside the page: each carries the moments on."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode, urlsplit

import msgspec

_PLURALS = {"artifact": "artifacts", "execution": "executions", "context": "contexts"}
_SAFE = "/:,"


class Links(msgspec.Struct, frozen=True):
    """Makes addresses below a prefix, such as `/stores/NAME`, at the moments of a request.

    `at` and `until` are the texts that the address of the request has for them, None for now.
    """

    prefix: str = ""
    at: str | None = None
    until: str | None = None

    def to(self, path: str, query: Iterable[tuple[str, object]] = (), /, **more: object) -> str:
        """The address of a path. What is None is left out; `at` and `until` may be given anew."""
        pairs = {"at": self.at, "until": self.until}
        given = [*query, *more.items()]
        rest = [(name, value) for name, value in given if name not in pairs]
        anew = {name: _text(value) for name, value in given if name in pairs}
        # Nothing is after now.
        pairs |= {"until": None, **anew} if anew.get("at", self.at) is None else anew
        said = [(name, str(value)) for name, value in (*rest, *pairs.items()) if value is not None]
        encoded = urlencode(said, safe=_SAFE, quote_via=quote)
        return f"{self.prefix}{path}{'?' if encoded else ''}{encoded}"

    def entity(self, kind: str, entity_id: int, rest: str = "", /, **query: object) -> str:
        """The address of a node, or of a page below it, such as `/lineage`."""
        return self.to(f"/{_PLURALS[kind]}/{entity_id}{rest}", **query)

    def list(self, kind: str, /, **query: object) -> str:
        """The address of the list of a kind of node."""
        return self.to(f"/{_PLURALS[kind]}", **query)


def web_address(text: str) -> str | None:
    """The host of a text that is an address of the web, and so may become a link; else None.

    It is as DNS has it: letters of other scripts, which may look like those of a known name, are
    spelled out. An address with a user's name, which is easily taken for the host, is no link.
    """
    if not text.isprintable() or " " in text:
        return None
    try:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            return None
        return parts.hostname.encode("idna").decode()
    except ValueError:
        return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
