"""Wakes the engine when something is due. The only layer that imports apscheduler."""

from __future__ import annotations
