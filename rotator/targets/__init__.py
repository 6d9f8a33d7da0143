"""Ways to deliver to consumers and to read back what they hold, one folder per kind. `contents`, what is written, the kinds share."""

from __future__ import annotations
