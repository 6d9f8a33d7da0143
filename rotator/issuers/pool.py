"""Gives out keys that a person minted ahead of time and laid into a pool: unattended rotation without an API to mint.

The pool is one document of a configured store. It cannot revoke: a person does that, and the key's death is proven as always (L21).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from rotator.domain.errors import KeyWanted, Refused
from rotator.domain.keys import KeyId
from rotator.domain.ports import Abilities, Clock, Holding, Issued, ListedKey, MintOrder, Store, Supplies
from rotator.domain.reasons import Reason
from rotator.domain.record import Spare
from rotator.domain.secret import Secret
from rotator.issuers.spares import SpareBox
from rotator.issuers.surroundings import Surroundings
from rotator.remote.fields import Duration, StorePath

__all__ = ["PoolIssuer", "PoolIssuerConfig"]

log = structlog.get_logger(__name__)


class PoolIssuerConfig(BaseModel):
    """Spare keys, minted by a person and added with `rotator pool add`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    type: Literal["pool"] = "pool"
    """The kind of issuer."""
    store: str = "embedded"
    """The store that holds the spare keys, from `stores`."""
    path: StorePath
    """Where in that store. No credential and no other issuer shares it."""
    low_water: Annotated[int, Field(ge=0)] = 2
    """With fewer usable spares than this the log and `rotator pool list` say that the pool runs low."""
    max_age: Duration | None = None
    """A spare that was added longer ago is not given out any more. null: spares keep."""

    def list_places(self, credentials: Sequence[str]) -> Iterator[tuple[str, str, str]]:  # noqa: ARG002  # one for all
        """(setting, store, path) of everything that this issuer keeps."""
        yield "path", self.store, self.path

    def build(self, name: str, around: Surroundings) -> PoolIssuer:
        """The issuer called `name`. Reads nothing."""
        return PoolIssuer(name, self, around.get_store(self.store), around.installation, around.clock)


class PoolIssuer:
    """Fulfils `Issuer` and `Supplied`. Safe to share between threads."""

    is_shared = True

    def __init__(self, name: str, config: PoolIssuerConfig, store: Store, installation: str, clock: Clock) -> None:
        self.name = name
        self._config = config
        self._clock = clock
        self._usable: int | None = None
        self._box = SpareBox(f"pool {name}", store, config.path, installation, clock, self._note)

    def __repr__(self) -> str:
        return f"<PoolIssuer {self.name} at {self._config.store}:{self._config.path}>"

    @property
    def abilities(self) -> Abilities:
        """Everything but revoking."""
        return Abilities(mint=True, list=True, revoke=False)

    def mint(self, order: MintOrder) -> Issued:
        """See `Issuer.mint`: a spare, reserved for this attempt. `minted_at` is when it was added: it was minted before that."""
        taken = self._box.take(order.label, lambda holding: self._choose(holding, order))
        return Issued(taken.secret, None, taken.spare.added_at)

    def list_labelled(self, prefix: str, credential: str = "") -> Sequence[ListedKey]:  # noqa: ARG002
        """See `Issuer.list_labelled`: what is reserved and not settled."""
        return self._box.list_labelled(prefix)

    def revoke(self, key_id: KeyId, reference: str | None) -> None:  # noqa: ARG002
        """See `Issuer.revoke`."""
        raise Refused(f"pool {self.name} cannot revoke keys: revoke {key_id} in the dashboard", reason=Reason.REVOKE_BY_HAND)

    def settle(self, label: str, credential: str = "") -> None:  # noqa: ARG002
        """See `Issuer.settle`: the spare leaves the pool."""
        self._box.settle(label)

    def check(self, order: MintOrder) -> None:
        """See `Issuer.check`."""
        self._box.store.check(self._box.path)
        self._choose(self._box.read(), order)

    def add(self, credential: str, secret: Secret, by: str, project: str | None) -> None:  # noqa: ARG002  # shared by all
        """See `Supplied.add`."""
        self._box.add(secret, by, project)

    def find_secret(self, credential: str, key_id: KeyId) -> Secret | None:  # noqa: ARG002  # shared by all
        """See `Supplied.find_secret`."""
        return self._box.find_secret(key_id)

    def strike(self, credential: str, key_id: KeyId, label: str) -> Secret:  # noqa: ARG002  # shared by all
        """See `Supplied.strike`."""
        return self._box.strike(key_id, label)

    def read_supplies(self, credential: str) -> Supplies:  # noqa: ARG002  # shared by all
        """See `Supplied.read_supplies`."""
        holding = self._box.read()
        spares = holding.record.spares if holding.record is not None else ()
        usable = tuple(spare.key_id for spare in spares if self._is_usable(spare, self._clock.now()))
        return Supplies(spares, usable, self._config.low_water)

    def find_usable(self) -> int | None:
        """See `Supplied.find_usable`."""
        return self._usable

    def _choose(self, holding: Holding, order: MintOrder) -> Spare:
        """The oldest free spare that fits. Raises `KeyWanted`."""
        now = self._clock.now()
        for spare in sorted(holding.record.spares if holding.record is not None else (), key=lambda one: one.added_at):
            if self._is_usable(spare, now) and _fits(spare, order) and order.find_holder(spare.key_id) is None:
                return spare
        project = f" of project {order.project}" if order.project is not None else ""
        raise KeyWanted(
            f"pool {self.name} has no usable spare of kind {order.kind} and env {order.env}{project}: mint some and add them with "
            f"`rotator pool add {self.name}{f' --project {order.project}' if order.project is not None else ''}`",
            reason=Reason.POOL_EMPTY,
        )

    def _is_usable(self, spare: Spare, now: datetime) -> bool:
        max_age: timedelta | None = self._config.max_age
        return spare.label is None and (max_age is None or now < spare.added_at + max_age)

    def _note(self, holding: Holding) -> None:
        now, before = self._clock.now(), self._usable
        self._usable = sum(self._is_usable(spare, now) for spare in (holding.record.spares if holding.record is not None else ()))
        if self._usable < self._config.low_water and (before is None or before >= self._config.low_water):
            log.warning("the pool runs low", action="pool", issuer=self.name, usable=self._usable, low_water=self._config.low_water)


def _fits(spare: Spare, order: MintOrder) -> bool:
    """A credential that names its project gets only spares that were added for it."""
    right_project = order.project is None or spare.project == order.project
    return spare.key_id.kind is order.kind and spare.key_id.env == order.env and right_project
