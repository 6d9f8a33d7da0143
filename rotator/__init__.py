"""rotator keeps a company's Millimetric API keys fresh, narrow and where they belong."""

from __future__ import annotations

__version__ = "0.1.0"
