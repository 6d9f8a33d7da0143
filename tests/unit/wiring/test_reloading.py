"""Reloads that are asked for at once, by the file's watcher, a signal and the API."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rotator.wiring import running
from rotator.wiring.running import build_runtime

_CONFIG = """
installation: test
targets: {{raw: {{type: file, path: {folder}/raw.key, content: key}}}}
credentials: {{}}
# {comment}
"""


def test_reloads_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once would each follow targets of their own, and those of one would never be told to stop."""
    config = tmp_path / "rotator.yaml"
    config.write_text(_CONFIG.format(folder=tmp_path, comment="before"))
    runtime = build_runtime(config, tmp_path / "state")
    built: list[object] = []
    build_parts = running.build_parts

    def build(*args: object) -> object:
        parts = build_parts(*args)  # type: ignore[arg-type]
        built.append(parts)
        return parts

    monkeypatch.setattr(running, "build_parts", build)
    try:
        config.write_text(_CONFIG.format(folder=tmp_path, comment="after"))
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
