"""Keep secrets out of what is printed, logged and recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

MASK = "***"

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|_KEY$", re.IGNORECASE
)
# user:password@ and token@ of a URL; the user's name may be half of the secret, and a password may hold an @ itself.
_USER_INFO = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)[^/\s'\"]+@")
_QUERY = re.compile(
    r"(?P<name>[?&;][\w-]*(?:token|secret|password|signature|sig|key|credential)[\w-]*=)[^&;\s'\"]+", re.IGNORECASE
)
_SHORTEST = 6  # characters; masking a shorter value would hide ordinary words


def redact(text: str) -> str:
    """Mask credentials in URLs, and values of environment variables whose names say that they are secret."""
    return redactor(os.environ)(text)


def redactor(variables: Mapping[str, str]) -> Callable[[str], str]:
    """Search the secret variables of an environment once, so that masking each line of a long output stays cheap.

    Returns
    -------
    Callable[[str], str]
        `redact` with the values of these variables.
    """
    values = _secret_values(variables)
    known = re.compile("|".join(re.escape(value) for value in sorted(values, key=len, reverse=True)))

    def mask(text: str) -> str:
        if values:
            text = known.sub(MASK, text)
        if "://" in text:
            text = _USER_INFO.sub(rf"\g<scheme>{MASK}@", text)
        return _QUERY.sub(rf"\g<name>{MASK}", text) if "=" in text else text

    return mask


def _secret_values(variables: Mapping[str, str]) -> set[str]:
    # By lines: output is masked line by line, and PEM keys have many.
    secret = [value for name, value in variables.items() if _SECRET_NAME.search(name)]
    return {line for value in secret for line in value.splitlines() if len(line) >= _SHORTEST}
