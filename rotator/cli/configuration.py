"""`config schema`, `config example`, `config show`: the configuration as data. They need no daemon and open nothing."""

from __future__ import annotations

import click

from rotator.cli.context import Options, pass_options, prints_json, reads_config


@click.group(epilog="\b\nExample:\n  rotator config example\n")
def config() -> None:
    """Show the configuration, its schema or an example."""


@config.command(epilog="\b\nExample:\n  rotator config schema\n")
def schema() -> int:
    """Print the JSON Schema of the configuration, for editors and checks."""
    from rotator.cli.output import print_json
    from rotator.settings import config_schema

    print_json(config_schema())
    return 0


@config.command(epilog="\b\nExample:\n  rotator config example\n")
def example() -> int:
    """Print a configuration with every setting, what it means and its default."""
    from rotator.settings import example as build_example

    click.echo(build_example(), nl=False)
    return 0


@config.command(epilog="\b\nExamples:\n  rotator config show -c rotator.yaml\n  rotator config show --json\n")
@prints_json
@reads_config
@pass_options
def show(options: Options) -> int:
    """Print the effective configuration (file, environment, secrets directory and defaults), with secrets masked."""
    import os

    from rotator.cli.failures import print_warning
    from rotator.cli.output import print_json
    from rotator.settings import load_settings
    from rotator.settings import show as render

    loaded = load_settings(options.config, os.environ)
    for warning in loaded.warnings:
        print_warning(warning)
    if options.json:
        import yaml

        print_json(yaml.safe_load(render(loaded.settings)))  # the masked text, so that nothing is masked in one form only
    else:
        click.echo(render(loaded.settings), nl=False)
    return 0
