"""From a file target's configuration to the target: which file, which content, which client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rotator.domain.errors import Misconfigured
from rotator.domain.ports import Clock
from rotator.mcp.clients import Located, get_client, locate_places
from rotator.targets.contents import HEADER_VALUE, RAW_KEY, ClientContent, Content, TemplateContent
from rotator.targets.file.backups import BackupFolder
from rotator.targets.file.config import FileTargetConfig
from rotator.targets.file.ownership import OwnershipFolder
from rotator.targets.file.target import FileTarget


def build_file_target(
    name: str, config: FileTargetConfig, state_dir: Path, clock: Clock, environ: Mapping[str, str], home: Path, platform: str
) -> FileTarget:
    """The target called `name`. `environ`, `home` and `platform` say where clients keep their files. Raises `Misconfigured`."""
    home = config.home.expanduser() if config.home is not None else home
    ownership, backups = OwnershipFolder(state_dir / "targets"), BackupFolder(state_dir / "backups")
    command = tuple(config.command or ())
    if config.client is None:
        assert config.path is not None
        return FileTarget(name, config.path.expanduser(), _content(config), ownership, backups, clock, adopt=config.adopt, command=command)
    client = get_client(config.client)
    located = _locate(name, config, {**environ, **config.environ}, home, platform)
    return FileTarget(
        name=name,
        path=located.file,
        content=ClientContent(client, config.server),
        ownership=ownership,
        backups=backups,
        clock=clock,
        activation=str(client.reload),
        home=home,
        installed=located.installed,
        adopt=config.adopt,
        command=command,
    )


def _content(config: FileTargetConfig) -> Content:
    if config.template is not None:
        return TemplateContent(config.template)
    return HEADER_VALUE if config.content == "header" else RAW_KEY


def _locate(name: str, config: FileTargetConfig, environ: Mapping[str, str], home: Path, platform: str) -> Located:
    if config.path is not None:
        path = config.path.expanduser()
        return Located(path, path.parent)
    assert config.client is not None
    places = locate_places(get_client(config.client), environ, home, platform)
    if len(places) != 1:
        names = ", ".join(str(p.file) for p in places) or "none on this platform"
        raise Misconfigured(f"targets.{name}: the client's file is not certain ({names}): name it with `path`")
    return places[0]
