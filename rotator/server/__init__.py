"""HTTP: health, metrics and the API. Turns requests into calls on the engine and reads of the journal, and answers in JSON.

It decides nothing about credentials, keeps no state of its own, and is the only place with an event loop: endpoints that may block run
in worker threads. Key material enters in one request body (a leak report) and leaves nowhere.
"""

from __future__ import annotations
