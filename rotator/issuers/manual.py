"""Asks a person to mint, and takes the key from where it was handed in: an inbox of each credential's own in a configured store.

It comes there by `rotator submit`, by the API, or laid at the inbox's path with the store's own tools. Everything after is automatic, but
for the revoking of the old key, which a person does as well (L21).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from rotator.domain.errors import KeyWanted, Refused
from rotator.domain.keys import KeyId
from rotator.domain.ports import Abilities, Clock, Holding, Issued, ListedKey, MintOrder, Store, Supplies
from rotator.domain.reasons import Reason
from rotator.domain.record import Adopt, Change, Doom, Forget, KeyEntry, Spare, Stage
from rotator.domain.secret import Secret
from rotator.issuers.spares import SpareBox
from rotator.issuers.surroundings import Surroundings
from rotator.remote.fields import StorePath

__all__ = ["ManualIssuer", "ManualIssuerConfig"]

_PLACE = "{credential}"


def _ensure_template(value: str) -> str:
    if value.count(_PLACE) != 1 or set("{}") & set(value.replace(_PLACE, "")):
        raise ValueError(f"must have {_PLACE} in it once, and no other braces: each credential has an inbox of its own")
    return value


class ManualIssuerConfig(BaseModel):
    """A person mints each key and hands it in."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    type: Literal["manual"] = "manual"
    """The kind of issuer."""
    store: str = "embedded"
    """The store that holds what was handed in, from `stores`."""
    inbox: Annotated[StorePath, AfterValidator(_ensure_template)] = "rotator-inbox/{credential}"
    """Where in that store, with {credential} in it. A key that a person writes to that path is taken as handed in."""
    instructions: str | None = None
    """What the person is told beside kind, environment and name of the key, such as whom to ask and where to click."""

    def list_places(self, credentials: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """(setting, store, path) of everything that this issuer keeps."""
        for credential in credentials:
            yield "inbox", self.store, self.inbox.replace(_PLACE, credential)

    def build(self, name: str, around: Surroundings) -> ManualIssuer:
        """The issuer called `name`. Reads nothing."""
        return ManualIssuer(name, self, around.get_store(self.store), around)


class ManualIssuer:
    """Fulfils `Issuer` and `Supplied`. Safe to share between threads."""

    is_shared = False

    def __init__(self, name: str, config: ManualIssuerConfig, store: Store, around: Surroundings) -> None:
        self.name = name
        self._config = config
        self._installation = around.installation
        self._clock: Clock = around.clock
        places = dict(zip(around.credentials, config.list_places(around.credentials), strict=True))
        self._boxes = {
            credential: SpareBox(f"the inbox of {credential}", store, path, around.installation, around.clock)
            for credential, (_, _, path) in places.items()
        }

    def __repr__(self) -> str:
        return f"<ManualIssuer {self.name} at {self._config.store}:{self._config.inbox}>"

    @property
    def abilities(self) -> Abilities:
        """Everything but revoking."""
        return Abilities(mint=True, list=True, revoke=False)

    def mint(self, order: MintOrder) -> Issued:
        """See `Issuer.mint`: the key that was handed in. `minted_at` is when that was: it was minted before that."""
        taken = self._box(order.credential).take(order.label, lambda holding: self._choose(holding, order, self._take_in(order)))
        return Issued(taken.secret, None, taken.spare.added_at)

    def list_labelled(self, prefix: str, credential: str = "") -> Sequence[ListedKey]:
        """See `Issuer.list_labelled`: what was taken and is not settled."""
        return [listed for box in self._find_boxes(credential) for listed in box.list_labelled(prefix)]

    def revoke(self, key_id: KeyId, reference: str | None) -> None:  # noqa: ARG002
        """See `Issuer.revoke`."""
        raise Refused(f"issuer {self.name} cannot revoke keys: revoke {key_id} in the dashboard", reason=Reason.REVOKE_BY_HAND)

    def settle(self, label: str, credential: str = "") -> None:
        """See `Issuer.settle`: the key leaves the inbox; one that was laid there is remembered, so that it is not taken again."""
        for box in self._find_boxes(credential):
            box.settle(label, self._remember)

    def check(self, order: MintOrder) -> None:
        """See `Issuer.check`."""
        box = self._box(order.credential)
        box.store.check(box.path)
        self._choose(box.read(), order, lambda _holding, key_id: Spare(key_id, self._clock.now(), "store"))

    def add(self, credential: str, secret: Secret, by: str, project: str | None) -> None:
        """See `Supplied.add`."""
        self._box(credential).add(secret, by, project)

    def find_secret(self, credential: str, key_id: KeyId) -> Secret | None:
        """See `Supplied.find_secret`."""
        return self._box(credential).find_secret(key_id)

    def strike(self, credential: str, key_id: KeyId, label: str) -> Secret:
        """See `Supplied.strike`."""
        return self._box(credential).strike(key_id, label)

    def read_supplies(self, credential: str) -> Supplies:
        """See `Supplied.read_supplies`."""
        holding = self._box(credential).read()
        spares = holding.record.spares if holding.record is not None else ()
        return Supplies(spares, tuple(spare.key_id for spare in spares if spare.label is None))

    def find_usable(self) -> int | None:
        """See `Supplied.find_usable`: there is no such number."""
        return None

    def _find_boxes(self, credential: str) -> Sequence[SpareBox]:
        """A credential's own, where it has one; of nobody in particular: all."""
        return [box for name, box in self._boxes.items() if credential in ("", name)]

    def _box(self, credential: str) -> SpareBox:
        box = self._boxes.get(credential)
        if box is None:
            raise Refused(f"{credential} does not use issuer {self.name}: it has no inbox there")
        return box

    def _choose(self, holding: Holding, order: MintOrder, lay_in: Callable[[Holding, KeyId], Spare]) -> Spare:
        """The key that was handed in first, or the laid one. Raises `KeyWanted`."""
        refused = []
        for spare in holding.record.spares if holding.record is not None else ():
            if spare.label is None:
                objection = _object(spare.key_id, order)
                if objection is None:
                    return spare
                refused.append(objection)
        laid = _find_laid(holding)
        if laid is not None:
            objection = _object(laid, order)
            if objection is None:
                return lay_in(holding, laid)
            refused.append(objection)
        raise KeyWanted(self._ask(order, refused))

    def _take_in(self, order: MintOrder) -> Callable[[Holding, KeyId], Spare]:
        """How a laid key becomes a spare on its way to being reserved: written first, so that it is found again whatever happens."""
        box = self._box(order.credential)

        def lay_in(holding: Holding, key_id: KeyId) -> Spare:
            box.lay_in(holding, key_id, f"{self._config.store}:{box.path}")
            # The caller's reservation is conditional on what was read before this write: it loses, reads, and finds the spare.
            return Spare(key_id, self._clock.now(), "store")

        return lay_in

    def _remember(self, holding: Holding, spare: Spare) -> Change | None:
        """The inbox's record learns of a laid key by adopting it; the one before it is forgotten."""
        record = holding.record
        assert record is not None
        if holding.current == spare.key_id and (record.current is None or record.current.key_id != spare.key_id):
            entry = KeyEntry(spare.key_id, Stage.CURRENT, spare.added_at)
            return Adopt(entry, self._clock.now(), record.uid, record.installation, holding.secrets[spare.key_id])
        for former in record.retiring:
            return Forget(former.key_id) if former.doomed_at is not None else Doom(former.key_id, self._clock.now())
        return None

    def _ask(self, order: MintOrder, refused: Sequence[str]) -> str:
        project = f", project {order.project}" if order.project is not None else ""
        box = self._box(order.credential)
        what = f"mint a key of kind {order.kind}, env {order.env}{project}, and call it {self._installation}/{order.credential}"
        ways = (
            f"`rotator submit {order.credential}`, by POST /api/v1/credentials/{order.credential}/submit, or by writing it to {box.path} "
            f"in the store {self._config.store}"
        )
        words = [f"{what}; hand it in with {ways}"]
        if self._config.instructions:
            words.append(self._config.instructions.strip())
        if refused:
            words.append(f"not taken: {'; '.join(refused)}")
        return ". ".join(words)


def _find_laid(holding: Holding) -> KeyId | None:
    """A key that a person wrote to the path and that was not taken yet."""
    record = holding.record
    known = record is not None and holding.current is not None and holding.current in record.key_ids
    return None if known else holding.current


def _object(key_id: KeyId, order: MintOrder) -> str | None:
    """Why a key is not given out; None: it is."""
    if key_id.kind is not order.kind or key_id.env != order.env:
        return f"key {key_id} is not of kind {order.kind} and env {order.env}"
    holder = order.find_holder(key_id)
    return f"key {key_id} is known already: {holder} has it" if holder is not None else None
