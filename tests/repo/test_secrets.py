"""No key material in the tree, and few places where a secret is revealed."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

from tests.conftest import KEY_SHAPED

ROOT = Path(__file__).parents[2]
REVEALERS = {
    "rotator/domain/secret.py": 2,  # the constant-time comparison
    "rotator/cli/leaking.py": 1,  # the report's body
    "rotator/cli/supplying.py": 2,  # the bodies that hand keys in
    "rotator/remote/millimetric.py": 1,  # the Authorization header of a probe
    "rotator/stores/codec.py": 1,  # sealed at once
    "rotator/stores/vault/store.py": 1,  # the current key, in the field that consumers read
    "rotator/stores/aws/values.py": 2,  # the value that consumers read
    "rotator/targets/contents.py": 2,  # what a target is for
    "rotator/targets/file/ownership.py": 1,  # hashed
    "rotator/cli/demo/story.py": 1,  # the demo's leak, on stdin
}


def _tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_file_of_the_repository_holds_a_key_shaped_string() -> None:
    assert [str(path.relative_to(ROOT)) for path in _tracked() if KEY_SHAPED.search(path.read_bytes())] == []


def test_secrets_are_revealed_in_few_known_places() -> None:
    found: dict[str, int] = {}
    for path in _tracked("rotator/*.py", "rotator/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "reveal":
                name = str(path.relative_to(ROOT))
                found[name] = found.get(name, 0) + 1
    # A store's master key is no Millimetric key: it has a `reveal` of its own.
    assert {name: count for name, count in found.items() if "embedded" not in name} == REVEALERS
