"""One module per step, named by its number and what it does; `rotator.journal.tables.REVISIONS` lists them too."""

from __future__ import annotations
