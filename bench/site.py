"""Configurations for the benchmarks, on top of the tests' own ways to start a sandbox and a daemon."""

from __future__ import annotations

from pathlib import Path

from tests.support.daemon import Site

WORKERS = 8


def build_site(folder: Path, url: str, token: str, credentials: int, *, cache_time: str, overlap: str) -> Site:
    """So many credentials, one raw-key file target each, on the embedded store and the sandbox; not limited in rate."""
    site = Site(folder, url, token, cache_time=cache_time)
    site.config["engine"] = {"workers": WORKERS, "catch_up": "1s", "resync": "30d"}
    keys = folder / "keys"
    keys.mkdir()
    for number in range(credentials):
        name = f"c{number:05}"
        site.config["targets"][name] = {"type": "file", "path": str(keys / f"{name}.key"), "content": "key"}
        site.credential(name, name, overlap={"min": overlap, "max": "1h"})
    site.write()
    return site
