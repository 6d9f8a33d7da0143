"""`rotator demo`: the whole story on one machine, each claim checked against the service's own key list and the files.

Works from the outside only: it starts the same programs, writes the same configuration and calls the same API as a user would.
"""

from __future__ import annotations

from rotator.cli.demo.story import run_demo

__all__ = ["run_demo"]
