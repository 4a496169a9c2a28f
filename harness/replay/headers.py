"""Headers that users give: a server's key and others. A secret is named by its environment variable, so that no run folder holds it."""

import os
import re
from collections.abc import Mapping

from harness.engine import EngineError

SECRET = re.compile(r"authorization|cookie|token|secret|key\b", re.IGNORECASE)  # names of headers whose values nobody else should see
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
VARIABLE = re.compile(r"\$(\w+)")


def check(headers: Mapping[str, str]) -> None:
    """See that they are well-formed, and that none holds what looks like a secret in the open. Raises ValueError."""
    for name, value in headers.items():
        if not NAME.fullmatch(name) or not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"client.headers: {name!r} needs a name of letters, digits and '-', and a text of one line as its value")
        if SECRET.search(name) and not VARIABLE.fullmatch(value):
            raise ValueError(
                f"client.headers: the value of {name} may be a secret, and runs keep their settings: put it into an environment variable "
                f"and write {name}: $VARIABLE"
            )


def lines(headers: Mapping[str, str], api_key_env: str | None) -> list[str]:
    """The lines of an HTTP request's head that they make. Raises EngineError when an environment variable is not there."""
    made = [f"{name}: {_value(f'client.headers.{name}', value)}" for name, value in headers.items()]
    key = [] if not api_key_env else [f"Authorization: Bearer {_value('client.api_key_env', f'${api_key_env}')}"]
    return key + made


def _value(setting: str, given: str) -> str:
    variable = VARIABLE.fullmatch(given)
    if variable is None:
        return given
    if variable[1] not in os.environ:
        raise EngineError(f"{setting}: there is no environment variable {variable[1]}; set it to what the server asks for")
    return os.environ[variable[1]]
