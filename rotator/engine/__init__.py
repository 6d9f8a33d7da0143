"""Drives credentials: gather facts, ask the domain, write the intent, take one step through the ports, write the outcome, look again.

Sees the world only through `domain.ports`, and writes nothing that the domain did not decide.
"""

from __future__ import annotations
