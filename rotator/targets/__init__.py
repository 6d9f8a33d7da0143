"""Ways to deliver to consumers and to read back what they hold, one module per kind."""

from __future__ import annotations
