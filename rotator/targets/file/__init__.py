"""A file on this machine: of an MCP client, or with a content of its own."""

from __future__ import annotations
