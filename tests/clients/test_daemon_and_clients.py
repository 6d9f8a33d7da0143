"""The daemon itself mints, writes five client files and rotates; the real clients follow, before and after."""

from __future__ import annotations

import pytest

from tests.support.clients import CREDENTIAL, SERVER, ClaudeCode, Codex, GeminiCli, Inspector, RealClient, Workplace, describe, find_key_ids
from tests.support.daemon import Document, Site, running_daemon
from tests.support.sandbox import SandboxProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = ("claude-code", "cursor", "vscode", "gemini-cli", "codex")
READERS: tuple[RealClient, ...] = (ClaudeCode(), GeminiCli(), Codex(), Inspector("claude-code"))


def test_the_daemon_writes_five_files_and_the_clients_follow_its_rotation(place: Workplace, sandbox: SandboxProcess) -> None:
    site = Site(place.folder, sandbox.url, sandbox.token_file.read_text().strip())
    site.credential(CREDENTIAL, *(site.client(name) for name in NAMES))
    with running_daemon(site) as daemon:
        first = str(daemon.wait_for(CREDENTIAL, is_everywhere, what="the first key in five files")["key_id"])
        assert_all_follow(place, first)

        done = site.run("rotate", CREDENTIAL, "--wait")
        assert done.returncode == 0, done.stderr
        status = daemon.wait_for(CREDENTIAL, lambda s: is_everywhere(s) and not s["retirements"], what="the old key's death")
        second = str(status["key_id"])
        assert second != first
        assert sandbox.control.key(first)["revoked_at"] is not None
        refused = place.refusals()
        assert_all_follow(place, second)
        assert place.refusals() == refused


def is_everywhere(status: Document) -> bool:
    """Whether the current key has reached every target."""
    return bool(status["key_id"]) and all(target["key_id"] == status["key_id"] for target in status["targets"])


def assert_all_follow(place: Workplace, key_id: str) -> None:
    """Each of the five files holds this key and no other, and each client that can be run connects with it."""
    for name in NAMES:
        assert {str(found) for found in find_key_ids(place.file(name).read_text())} == {key_id}, name
    for client in READERS:
        seen = client.look(place)
        assert seen[SERVER].url == place.endpoint, client.program
        assert seen[SERVER].connected, f"{client.program}: {describe(seen)}"
