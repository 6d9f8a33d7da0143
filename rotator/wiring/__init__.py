"""The composition root: from settings to a running daemon, or to what a single command needs.

The only place that knows both a configured `type:` and its class. Nothing registers itself on import; the builders are the table.
"""

from __future__ import annotations
