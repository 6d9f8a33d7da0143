"""What an image holds and how large it is, as the tables of docs/image.md. Runs in the image: `make image-report`."""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from importlib.metadata import distributions
from importlib.util import cache_from_source
from pathlib import Path

_NOT_THE_IMAGE = ("/proc", "/sys", "/dev")
_OURS = Path("/opt/rotator")
_SMALL = 1_000_000


def main() -> None:
    """Print both tables."""
    whole, files = measure(Path("/"))
    ours, our_files = measure(_OURS)
    python = ".".join(map(str, sys.version_info[:3]))
    print("| part | files | MB |\n| --- | --- | --- |")
    print(f"| the base, with Python {python} | {files - our_files:,} | {(whole - ours) / 1e6:.0f} |")
    print(f"| `{_OURS}` | {our_files:,} | {ours / 1e6:.0f} |")
    print(f"| the image, unpacked | {files:,} | {whole / 1e6:.0f} |")
    sizes = measure_packages()
    print(f"\n| package | MB |\n| --- | --- |\n{render(sizes)}")
    print(f"\nAll {len(sizes)}: {', '.join(sorted(sizes))}.")


def measure(root: Path) -> tuple[int, int]:
    """Bytes and number of the regular files below a folder, each counted once."""
    seen: dict[tuple[int, int], int] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in _NOT_THE_IMAGE]  # noqa: PTH118
        for name in names:
            status = Path(folder, name).lstat()
            if stat.S_ISREG(status.st_mode):
                seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values()), len(seen)


def measure_packages() -> Counter[str]:
    """Package → bytes of what it installed and of the bytecode made from it."""
    sizes: Counter[str] = Counter()
    for package in distributions():
        if not package.locate_file("").is_relative_to(_OURS):  # type: ignore[attr-defined]
            continue
        for file in package.files or ():
            source = Path(str(package.locate_file(file)))
            compiled = [Path(cache_from_source(str(source)))] if source.suffix == ".py" else []
            sizes[package.name.lower().replace("_", "-").replace(".", "-")] += sum(
                f.stat().st_size for f in [source, *compiled] if f.is_file()
            )
    return sizes


def render(sizes: Counter[str]) -> str:
    """A row for each large one, and one for all others."""
    large = [(name, size) for name, size in sizes.most_common() if size >= _SMALL]
    rest = len(sizes) - len(large), sizes.total() - sum(size for _, size in large)
    return "\n".join(f"| {name} | {size / 1e6:.1f} |" for name, size in [*large, (f"{rest[0]} others", rest[1])])


if __name__ == "__main__":
    main()
