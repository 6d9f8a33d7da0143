"""What brings keys to life and ends them, one module per kind. Kinds never import each other; `wiring` picks one by its `type`."""

from __future__ import annotations
