"""The truth about rotations, retirements, receipts and the audit trail, on SQLite. Holds key ids, never key material.

`tables`, `statements`, `rows`, `audit` and `sql` say what a journal is in any SQL database; a kind (`sqlite`) adds how it is opened,
locked and what its driver's errors mean. The only layer that speaks SQL.
"""

from __future__ import annotations
