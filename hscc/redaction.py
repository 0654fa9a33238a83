"""Keep secrets out of what is printed, logged and recorded."""

from __future__ import annotations

import os
import re

MASK = "***"

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
# user:password@ and token@ of a URL; the user's name may be half of the secret.
_USER_INFO = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)[^/\s@'\"]+@")
_QUERY = re.compile(
    r"(?P<name>[?&;][\w-]*(?:token|secret|password|signature|sig|key|credential)[\w-]*=)[^&;\s'\"]+", re.IGNORECASE
)
_SHORTEST = 6  # characters; masking a shorter value would blot out ordinary words


def redact(text: str) -> str:
    """Mask credentials in URLs, and the values of environment variables whose names say that they are secret.

    Parameters
    ----------
    text : str
        Anything about to leave the process.

    Returns
    -------
    str
        The same with each secret replaced by ``***``.
    """
    for value in sorted(_secret_values(), key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _USER_INFO.sub(rf"\g<scheme>{MASK}@", text)
    return _QUERY.sub(rf"\g<name>{MASK}", text)


def _secret_values() -> set[str]:
    return {value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}
