"""The part of docs/cli.md that is made from the commands. `python -m tests.unit.cli.reference` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from rotator.cli.main import cli

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
BEGIN, END = "<!-- made from the commands: begin -->\n", "<!-- made from the commands: end -->\n"


def render_reference() -> str:
    """Every command in the order of `rotator --help`."""
    ctx = click.Context(cli, info_name="rotator")
    return "\n".join(_render_group(cli, ctx)) + "\n"


def render_page(page: str) -> str:
    """The page with its made part as it should be."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + render_reference() + END + rest.split(END)[1]


def _render_group(group: click.Group, ctx: click.Context) -> Iterator[str]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        under = click.Context(command, info_name=name, parent=ctx)
        yield from _render_command(command, under)
        if isinstance(command, click.Group):
            yield from _render_group(command, under)


def _render_command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    yield f"\n### `{ctx.command_path}`\n"
    pieces = " ".join(p for p in command.collect_usage_pieces(ctx) if p != "[OPTIONS]")
    if not isinstance(command, click.Group):
        yield f"`{ctx.command_path}{f' {pieces}' if pieces else ''}`\n"
    for paragraph in (command.help or "").split("\n\n"):
        yield " ".join(paragraph.split()) + "\n"
    options = [p.get_help_record(ctx) for p in command.params if isinstance(p, click.Option)]
    if any(options):
        yield "| option | |\n| --- | --- |"
        yield from (f"| `{record[0]}` | {record[1]} |" for record in options if record)
        yield ""
    examples = [line.strip() for line in (command.epilog or "").splitlines() if line.strip().startswith("rotator ")]
    yield "\n".join(["```console", *(f"$ {example}" for example in examples), "```"])


def main() -> None:
    """Writes the made part."""
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
