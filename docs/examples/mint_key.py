#!/usr/bin/env python3
"""An issuer of the type `command`: mints, lists and revokes keys at the admin API of `rotator sandbox`, with the standard library alone.

One JSON request on stdin, one JSON object on stdout. Exit code 0: done. 2: surely not done. Anything else: perhaps. What is written to
stderr ends in rotator's log and status, redacted. Configured by two variables, which `environment:` must name: SANDBOX_URL, and
SANDBOX_TOKEN_FILE, a file with the admin token.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

WITHIN = 4.0
"""Seconds for one call: two of them fit into rotator's limit of ten for the whole run."""
TOO_MANY = 429


def main() -> None:
    """Does what stdin asks for."""
    request = json.load(sys.stdin)
    if request["version"] != 1:
        refuse(f"this program speaks version 1, not {request['version']}")
    operations = {"mint": mint, "list": list_keys, "revoke": revoke, "check": check}
    if request["operation"] not in operations:
        refuse("this program cannot do that")
    json.dump(operations[request["operation"]](request), sys.stdout)


def mint(request: dict[str, Any]) -> dict[str, Any]:
    """A new key. The label is the key of idempotency: one that has a key gets no second one."""
    if [key for key in list_keys(request)["keys"] if key["label"] == request["label"]]:
        refuse("this label has a key already, and a key is shown only once")
    wish = {name: request[name] for name in ("kind", "env", "project", "label") if name in request}
    return {"key": call("POST", "/admin/v1/keys", wish)["key"]}


def list_keys(request: dict[str, Any]) -> dict[str, Any]:
    """Every key whose label begins so, revoked ones too."""
    keys: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        query = urlencode({"label_prefix": request["label"], "limit": 200, "cursor": cursor})
        page = call_again("GET", f"/admin/v1/keys?{query}")
        keys += [{"key_id": key["id"], "label": key["label"], "revoked": key["revoked_at"] is not None} for key in page["keys"]]
        cursor = page["next_cursor"]
    return {"keys": keys}


def revoke(request: dict[str, Any]) -> dict[str, Any]:
    """End a key. One that is unknown or ended already is fine."""
    try:
        call("DELETE", f"/admin/v1/keys/{quote(request['key_id'])}")
    except urllib.error.HTTPError as problem:
        if problem.code != 404:
            raise
    return {}


def check(_request: dict[str, Any]) -> dict[str, Any]:
    """Whether a mint would work now."""
    call_again("GET", "/admin/v1/keys?limit=1")
    return {}


def call_again(method: str, path: str) -> Any:
    """A call that only reads: once more if its answer is lost."""
    try:
        return call(method, path)
    except OSError as problem:
        if isinstance(problem, urllib.error.HTTPError):
            raise
        return call(method, path)


def call(method: str, path: str, body: Any = None) -> Any:
    """One call. An answer that says when to come back is handed on."""
    token = Path(os.environ["SANDBOX_TOKEN_FILE"]).read_text(encoding="ascii").strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["SANDBOX_URL"] + path, data, headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=WITHIN) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as problem:
        if problem.code == TOO_MANY:
            json.dump({"retry_after": int(problem.headers.get("Retry-After", "1"))}, sys.stdout)
            sys.exit(2)
        if method == "POST" and 400 <= problem.code < 500:
            refuse(f"the admin API answers {problem.code}")
        raise


def refuse(why: str) -> NoReturn:
    """Surely nothing was done."""
    sys.stderr.write(f"{why}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
