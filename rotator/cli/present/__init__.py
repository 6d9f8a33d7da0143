"""What commands print: pure functions from what the API answered to blocks of text, and one place that renders blocks."""

from __future__ import annotations
