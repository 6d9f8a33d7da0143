"""Figures about speed and size. They report; they never pass or fail. `python -m bench --help`."""

from __future__ import annotations
