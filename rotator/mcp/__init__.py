"""MCP clients' configuration files: the clients as data, and an editor that changes one span of a file and no other byte.

Text in, text out. Nothing here reads or writes a file, knows a store or the network, or decides whether an edit should happen.
"""

from __future__ import annotations
