"""Configurations for the benchmarks, on top of the tests' own ways to start a sandbox and a daemon."""

from __future__ import annotations

from pathlib import Path

from tests.support.daemon import Site
from tests.support.stores import StoreSite

WORKERS = 8


def build_site(
    folder: Path, url: str, token: str, credentials: int, *, cache_time: str, overlap: str, store: StoreSite | None = None
) -> Site:
    """So many credentials, one raw-key file target each, on the sandbox and a store (the embedded one by default); not limited in rate."""
    site = Site(folder, url, token, cache_time=cache_time)
    if store is not None:
        store.furnish(site)
    site.config["engine"] = {"workers": WORKERS, "catch_up": "1s", "resync": "30d"}
    keys = folder / "keys"
    keys.mkdir()
    for number in range(credentials):
        name = f"c{number:05}"
        site.config["targets"][name] = {"type": "file", "path": str(keys / f"{name}.key"), "content": "key"}
        site.credential(name, name, overlap={"min": overlap, "max": "1h"})
    site.write()
    return site
