"""Prints what each walk covered: its bounds, states and seconds."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a walk, also under xdist, which keeps a test's own output to itself."""
    reports = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    lines = [value for report in reports for name, value in report.user_properties if name == "walked"]
    states = sum(value for report in reports for name, value in report.user_properties if name == "states")
    if lines:
        terminalreporter.section(f"model check: {states:,} states")
        for line in lines:
            terminalreporter.line(str(line))
