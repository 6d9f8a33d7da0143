"""Field types of configuration classes: durations, base URLs, environment variables. Errors name the rule, never a value that may be
secret. Nothing here reads a file or opens a socket.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from rotator.domain.timing import parse_duration, render_duration

__all__ = ["BaseUrl", "Duration", "EnvName", "FilePath", "ProxyUrl", "StorePath", "is_loopback", "parse_base_url"]


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError("a duration is text such as 30d, 12h, 1h30m or 90s")


def _expanded(value: Path) -> Path:
    return value.expanduser()


def _env_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("this must be the name of an environment variable, not its content")
    return value


def _store_path(value: str) -> str:
    if not re.fullmatch(r"[^\s/](?:[^\x00-\x1f\x7f]{0,510}[^\s/])?", value):
        raise ValueError(
            "must be a path such as millimetric/checkout-read: not empty, no slash or white space at its ends, 512 characters at most"
        )
    return value


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine itself: `localhost`, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_base_url(value: str) -> SplitResult:
    """The parts of an http(s) URL that others are built on. `ValueError` for userinfo, query, fragment, odd characters or no host."""
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("a base URL has no white space, line breaks or characters outside of ASCII")
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("a base URL reads https://host, with a port or path where needed")
    if "@" in parts.netloc:
        raise ValueError("a base URL carries no user name or password: name a file or an environment variable for the token instead")
    if "?" in value or "#" in value or "\\" in value:
        raise ValueError("a base URL has no query, no fragment and no backslash")
    _ = parts.port  # a port that is none raises ValueError
    return parts


def _base_url(value: str) -> str:
    parts = parse_base_url(value)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https://; plain http:// is for loopback hosts (localhost, 127.0.0.1, [::1]) only")
    return value.rstrip("/")


def _proxy_url(value: str) -> str:
    parse_base_url(value)
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(render_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", "examples": ["30d", "1h30m"]}),
]
"""A span of time, written like `30d`, `1h30m` or `90s`."""

BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""An https URL (http for loopback hosts), without trailing slash."""

ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
"""The http(s) URL of a proxy, on whatever host: what goes through it is encrypted by itself."""

FilePath = Annotated[Path, AfterValidator(_expanded)]
"""A file's path; `~` is the home folder. The file is read at use, not when the configuration is."""

StorePath = Annotated[str, AfterValidator(_store_path)]
"""Where something lies in a store."""

EnvName = Annotated[str, AfterValidator(_env_name)]
"""The name of an environment variable."""
