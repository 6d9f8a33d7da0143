"""What a reload of the configuration keeps, and what it builds anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from rotator.domain.errors import Misconfigured
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
