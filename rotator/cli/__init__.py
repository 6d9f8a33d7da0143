"""The command line: parse, build, call one function, print. Decides nothing about keys.

`rotator --help` must stay cheap: no module here imports pydantic, httpx, rich, SQLAlchemy, FastAPI or structlog when it is imported; what
a command needs is imported inside it. What commands print is made in `present`, out of what the API answered.
"""

from __future__ import annotations
