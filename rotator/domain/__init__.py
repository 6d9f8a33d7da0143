"""What is true about keys, credentials, rotations and time: pure functions and frozen data, and the ports that everyone else fulfils.

Imports nothing but the standard library, and of that nothing that reads a clock, a file, a socket or a dice.
"""

from __future__ import annotations
