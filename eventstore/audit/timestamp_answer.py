"""The outer form of an authority's answer (RFC 3161), as far as it has to be looked into here.

Its certificates are a SET, which DER wants in the order of their bytes. OpenSSL's authorities write
them in the order of the chain, and rfc3161-client takes none but DER. No signature covers the
order, nor the certificates themselves: they are only material to build a chain to the roots from.
"""

from __future__ import annotations

from typing import NamedTuple

_SEQUENCE = 0x30
_OBJECT_IDENTIFIER = 0x06
_CERTIFICATES = 0xA0


class _Element(NamedTuple):
    tag: int
    start: int
    content: int
    end: int


def with_ordered_certificates(answer: bytes) -> bytes:
    """The answer with its certificates in the order of DER; unchanged where it has another form."""
    try:
        _, token = _elements(answer, _only(answer, 0, len(answer)))
        _, explicit = _elements(answer, token)
        signed_data = _only(answer, explicit.content, explicit.end)
        parts = _elements(answer, signed_data)
        held = next(part for part in parts[3:] if part.tag == _CERTIFICATES)
        certificates = [answer[one.start : one.end] for one in _elements(answer, held)]
    except (IndexError, StopIteration, ValueError):
        return answer
    return answer[: held.content] + b"".join(sorted(certificates)) + answer[held.end :]


def is_bare_token(answer: bytes) -> bool:
    """Whether it is a token without the status that an answer begins with."""
    try:
        parts = _elements(answer, _only(answer, 0, len(answer)))
        return parts[0].tag == _OBJECT_IDENTIFIER
    except (IndexError, ValueError):
        return False


def _only(data: bytes, start: int, end: int) -> _Element:
    element = _element(data, start)
    if element.tag != _SEQUENCE or element.end != end:
        raise ValueError
    return element


def _elements(data: bytes, inside: _Element) -> list[_Element]:
    found, place = [], inside.content
    while place < inside.end:
        found.append(_element(data, place))
        place = found[-1].end
    if place != inside.end:
        raise ValueError
    return found


def _element(data: bytes, start: int) -> _Element:
    length, content = data[start + 1], start + 2
    if length & 0x80:
        of_length = length & 0x7F
        length = int.from_bytes(data[content : content + of_length], "big")
        content += of_length
    if content + length > len(data):
        raise ValueError
    return _Element(data[start], start, content, content + length)
