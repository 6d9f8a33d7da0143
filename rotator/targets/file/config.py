"""What the user writes for a file target. Only the shape: no file is read, and nothing is looked up on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rotator.domain.errors import Misconfigured
from rotator.mcp.clients import get_client
from rotator.remote.fields import FilePath
from rotator.targets.surroundings import TargetSurroundings

if TYPE_CHECKING:
    from rotator.targets.file.target import FileTarget

__all__ = ["FileTargetConfig"]


class FileTargetConfig(BaseModel):
    """One file on this host: a raw key, a header value, a template, or an entry in an MCP client's configuration. Written 0600."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    type: Literal["file"] = "file"
    """The kind of target."""
    path: FilePath | None = None
    """The file, absolute or from `~`. Needed unless `client` is given; with `client` it replaces the place where that client looks."""
    content: Literal["key", "header"] | None = None
    """What the whole file is: `key`, the raw key, or `header`, the value of an Authorization header (`Bearer …`)."""
    template: str | None = None
    """What the whole file is, as text with {key}, {key_id} and {endpoint} in it; literal braces are doubled."""
    client: str | None = None
    """An MCP client whose configuration gets an entry with the key in it, such as `claude-code`, `cursor` or `vscode`."""
    server: str = Field(default="millimetric", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The name of that entry."""
    adopt: bool = False
    """Take over a file or an entry of that name that rotator did not write."""
    home: FilePath | None = None
    """The home folder that the client's file is looked for in; default: that of the user who runs rotator."""
    environ: dict[str, str] = Field(default_factory=dict)
    """Variables that say where the client's file is, such as CODEX_HOME, in place of those of the environment."""
    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    """A program with its arguments, run after each change; no shell, at most 10 seconds, and no key is handed to it."""

    @field_validator("path", "home")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("must be an absolute path, or begin with ~/")
        return value

    @field_validator("client")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                get_client(value)
            except Misconfigured as fault:
                raise ValueError(str(fault)) from None
        return value

    @field_validator("template")
    @classmethod
    def _well_formed(cls, value: str | None) -> str | None:
        if value is not None:
            from rotator.targets.contents import TemplateContent

            try:
                TemplateContent(value)
            except Misconfigured as fault:
                raise ValueError(str(fault)) from None
        return value

    @model_validator(mode="after")
    def _one_content(self) -> FileTargetConfig:
        given = [name for name in ("content", "template", "client") if getattr(self, name) is not None]
        if len(given) != 1:
            extra = f"{given[-1]} stands beside {' and '.join(given[:-1])}: " if given else ""
            raise ValueError(f"{extra}a file target needs exactly one of `content` (key or header), `template` and `client`")
        if self.client is None and self.path is None:
            raise ValueError("a file target needs a `path`, unless `client` says whose configuration it is")
        if self.client is None:
            for name in ("server", "home", "environ"):
                if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                    raise ValueError(f"{name} is for a target with `client` only: remove it")
        return self

    @property
    def places(self) -> tuple[tuple[object, ...], ...]:
        """What no other target may write to, as far as the configuration tells."""
        return ((self.path, self.client, self.home, tuple(sorted(self.environ.items())), self.server),)

    def build(self, surroundings: TargetSurroundings) -> FileTarget:
        """The target. Reads no file. Raises `Misconfigured`."""
        from rotator.targets.file.building import build_file_target

        s = surroundings
        return build_file_target(s.name, self, s.state_dir, s.clock, s.environ, s.home, s.platform)
