"""Wire clients for the services whose protocol we speak ourselves. The only folder that imports httpx; foreign errors end here."""

from __future__ import annotations
