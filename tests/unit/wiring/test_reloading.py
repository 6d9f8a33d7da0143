"""Reloads of the configuration: what is kept, what is built anew, and that they take turns."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rotator.domain.errors import Misconfigured
from rotator.wiring import running
from rotator.wiring.running import build_runtime

CONFIG = """
installation: test
stores:
  vault: {type: vault, address: "https://vault.example", mount: MOUNT, auth: {type: approle, role_id: r, secret_id_file: s, wrapped: true}}
  aws: {type: aws, region: eu-west-1}
issuers:
  spares: {type: pool, store: vault, path: spares}
credentials:
"""
CREDENTIAL = "  {name}: {{kind: rk, store: vault, path: {name}, issuer: spares, targets: []}}\n"
PLAIN = """
installation: test
targets: {{raw: {{type: file, path: {folder}/raw.key, content: key}}}}
credentials: {{}}
# {comment}
"""


def test_a_store_whose_settings_stay_keeps_its_session(tmp_path: Path) -> None:
    """A wrapped secret id can be unwrapped once: a store that is built anew could not sign in."""
    path = tmp_path / "rotator.yaml"

    def write(mount: str, *names: str) -> None:
        path.write_text(CONFIG.replace("MOUNT", mount) + "".join(CREDENTIAL.format(name=name) for name in names), "utf-8")

    write("secret", "one")
    runtime = build_runtime(path, tmp_path)
    try:
        before = runtime.parts.stores
        write("secret", "one", "two")
        assert runtime.reload()
        assert runtime.engine.credentials.keys() == {"one", "two"}
        assert {name for name, store in before.items() if runtime.parts.stores[name] is store} == {"vault", "aws"}
        write("another", "one")
        assert runtime.reload()
        assert {name for name, store in before.items() if runtime.parts.stores[name] is store} == {"aws"}
        write("/", "one")
        with pytest.raises(Misconfigured, match="mount"):
            runtime.reload()
    finally:
        runtime.journal.close()


def test_reloads_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once would each follow targets of their own, and those of one would never be told to stop."""
    config = tmp_path / "rotator.yaml"
    config.write_text(PLAIN.format(folder=tmp_path, comment="before"))
    runtime = build_runtime(config, tmp_path / "state")
    built: list[object] = []
    build_parts = running.build_parts

    def build(*args: object) -> object:
        parts = build_parts(*args)  # type: ignore[arg-type]
        built.append(parts)
        return parts

    monkeypatch.setattr(running, "build_parts", build)
    try:
        config.write_text(PLAIN.format(folder=tmp_path, comment="after"))
        together = threading.Barrier(8)

        def reload(_: int) -> bool:
            together.wait(10)
            return runtime.reload()

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(reload, range(8))) == [False] * 7 + [True]
        assert len(built) == 1
        assert runtime.parts is built[0]
    finally:
        runtime.journal.close()
