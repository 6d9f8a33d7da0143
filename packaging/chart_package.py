#!/usr/bin/env python3
"""Packs helm/ into the archive that Helm installs and repositories serve: `chart_package.py FOLDER`, or `make chart-package`.

As `helm package` does, but the same chart gives the same bytes, whenever and by whomever it is packed.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "helm"


def pack(chart: Path) -> bytes:
    """The archive: everything below the chart's folder, in order, without times and owners."""
    name = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))["name"]
    files = {file.relative_to(chart): file for file in chart.rglob("*") if file.is_file()}
    # Helm wants Chart.yaml first, to learn the name without reading further.
    order = sorted(files, key=lambda path: (path != Path("Chart.yaml"), path.as_posix()))
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in order:
            content = files[path].read_bytes()
            entry = tarfile.TarInfo(f"{name}/{path.as_posix()}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(plain.getvalue())
    return packed.getvalue()


def get_file_name(chart: Path) -> str:
    """Such as rotator-0.1.0.tgz."""
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    return f"{about['name']}-{about['version']}.tgz"


def main() -> int:
    """Write it into the folder that is named; 2 where none is."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: chart_package.py FOLDER\n")
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / get_file_name(CHART)
    file.write_bytes(pack(CHART))
    sys.stdout.write(f"{file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
