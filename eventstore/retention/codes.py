"""Codes and ticket numbers: what records say of a law or a case, and keep for ever."""

from __future__ import annotations

import re
from typing import Final

from eventstore.errors import InvalidArgumentError

_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9()\[\]._:/#+-]{0,99}")


def check_code(name: str, code: object, *, is_required: bool = False) -> str:
    """The code as it is given. Raises InvalidArgumentError for what may be a sentence or a name."""
    if not isinstance(code, str) or (
        _CODE.fullmatch(code) is None and not (code == "" and not is_required)
    ):
        raise InvalidArgumentError(
            f"{name} is {code!r}: use a code such as GDPR-17(1)(b) or PRIV-214, without spaces; it "
            "is kept for ever, so let it name nobody"
        )
    return code
