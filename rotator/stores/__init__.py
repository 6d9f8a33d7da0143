"""Durable homes for credentials' keys, one module or folder per kind, each fulfilling `rotator.domain.ports.Store`.

What is legal is `rotator.domain.record.apply`'s to say; a store only sees to it that a change is applied whole, once, and onto what its
caller saw. `codec` (the JSON form of a record) and `changes` (record and secrets after a change) are shared by the kinds; the kinds do
not import each other, and nothing here decides what should happen next.
"""

from __future__ import annotations
