"""Takes the keys that people bring, for issuers that make none: each is verified before it counts, and whoever waited for it is woken.

A key is told apart by its key id alone in everything that is answered, logged or journalled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from rotator.domain.credential import Credential
from rotator.domain.errors import AnswerLost, Refused, RotatorError
from rotator.domain.facts import Verdict
from rotator.domain.keys import PUBLISHED_TOOLS, KeyId
from rotator.domain.ports import Event, Issuer, Prober, Supplied, Supplies
from rotator.domain.reasons import Reason
from rotator.domain.secret import Secret
from rotator.engine.engine import Engine
from rotator.engine.operations import UnknownCredential

_AT_ONCE = 8

log = structlog.get_logger(__name__)


class UnknownIssuer(RotatorError):
    """No such pool is configured."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one key that was brought."""

    key_id: KeyId
    accepted: bool
    text: str
    reason: Reason | None = None
    """why it was not accepted"""


@dataclass(slots=True)
class Supplying:
    """Over a running engine. Safe from any thread."""

    engine: Engine
    _usable: dict[str, int] = field(default_factory=dict)
    """shared lot → how many keys could be given out at the last round"""
    _silent: set[str] = field(default_factory=set)
    """shared lots that did not answer the last round: said once, not every minute"""

    def find_pools(self) -> Mapping[str, Supplied]:
        """The issuers whose credentials all draw from one lot of keys, by name."""
        return {name: one for name, one in self.engine.runner.issuers.items() if isinstance(one, Supplied) and one.is_shared}

    def read_pool(self, name: str) -> Supplies:
        """What a pool holds now."""
        return self._get_pool(name).read_supplies("")

    def add_spares(self, name: str, keys: Sequence[Secret], project: str | None, who: str) -> Sequence[Received]:
        """Add keys to a pool: one answer for each, in their order. Raises `UnknownIssuer`, `Refused` for a pool that nobody uses."""
        pool = self._get_pool(name)
        users = self._users(name)
        if not users:
            raise Refused(f"no credential uses pool {name}, so no key can be told to fit: name it as `issuer` of one first")

        def fits(key_id: KeyId) -> list[Credential]:
            return [c for c in users if (c.policy.kind, c.env) == (key_id.kind, key_id.env) and c.project in (None, project)]

        wanted = ", ".join(sorted({_describe(c) for c in users}))
        received = self._receive(keys, fits, f"the credentials of pool {name} want {wanted}", lambda key: pool.add("", key, who, project))
        self._tell(f"pool {name}", received, who, users)
        return received

    def submit(self, name: str, key: Secret, who: str) -> Received:
        """Hand a key in for one credential. Raises `UnknownCredential`, `Refused` where its issuer takes none."""
        credential = self.engine.find_credential(name)
        if credential is None:
            known = ", ".join(sorted(self.engine.credentials)) or "none"
            raise UnknownCredential(f"no credential is called {name!r}; configured: {known}", reason=Reason.MISCONFIGURED)
        issuer: Issuer = credential.issuer
        if not isinstance(issuer, Supplied) or issuer.is_shared:
            way = f": add spares with `rotator pool add {credential.issuer_name}`" if isinstance(issuer, Supplied) else ""
            if not credential.policy.can_mint:
                way = f": write it to {credential.path} in the store {credential.store_name}"
            raise Refused(f"issuer {credential.issuer_name} of {name} takes no key that is handed in for it{way}")
        supplied: Supplied = issuer

        def fits(key_id: KeyId) -> list[Credential]:
            return [credential] if (credential.policy.kind, credential.env) == (key_id.kind, key_id.env) else []

        wanted = f"{name} wants {_describe(credential)}"
        received = self._receive((key,), fits, wanted, lambda one: supplied.add(name, one, who, credential.project))
        self._tell(name, received, who, (credential,))
        return received[0]

    def count_spares(self) -> Mapping[str, int]:
        """Pool → how many keys it could give out when it was last looked at; one that was not looked at yet is left out. Asks nobody."""
        counts = {name: pool.find_usable() for name, pool in self.find_pools().items()}
        return {name: count for name, count in counts.items() if count is not None}

    def poll(self) -> None:
        """Look at every pool once: for the metric, and for spares that a sibling added."""
        pools = self.find_pools()
        self._usable = {name: count for name, count in self._usable.items() if name in pools}
        for name, pool in pools.items():
            try:
                usable = len(pool.read_supplies("").usable)
            except RotatorError as problem:
                if name not in self._silent:
                    log.warning("the pool does not answer", action="poll", issuer=name, problem=str(problem))
                self._silent.add(name)
                continue
            self._silent.discard(name)
            if usable > self._usable.get(name, usable):
                self._wake(self._users(name))
            self._usable[name] = usable

    def _receive(
        self, keys: Sequence[Secret], fits: Callable[[KeyId], Sequence[Credential]], wanted: str, add: Callable[[Secret], None]
    ) -> Sequence[Received]:
        held = self._gather_held({key.key_id for key in keys})

        def judge(key: Secret) -> str | RotatorError:
            try:
                return self._verify(key, fits(key.key_id), wanted, held.get(key.key_id))
            except RotatorError as problem:
                return problem

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            judged = list(pool.map(judge, keys))
        received: list[Received] = []
        for key, verdict in zip(keys, judged, strict=True):  # added in their order: the first is the first to be given out
            again = any(one.key_id == key.key_id for one in received)
            twice = Refused("it was handed in twice", reason=Reason.ALREADY_KNOWN)
            received.append(_add(key, twice if again else verdict, add))
        return received

    def _verify(self, key: Secret, takers: Sequence[Credential], wanted: str, holder: str | None) -> str:
        """What is to be said of a good key; raises for any other."""
        key_id = key.key_id
        if not takers:
            raise Refused(f"it is of kind {key_id.kind} and env {key_id.env}: {wanted}", reason=Reason.WRONG_KIND)
        if holder is not None:
            raise Refused(f"it is known already: {holder} has it", reason=Reason.ALREADY_KNOWN)
        prober: Prober = takers[0].prober
        answer = prober.probe(key)
        detail = f" ({answer.detail})" if answer.detail else ""
        if answer.verdict is Verdict.UNKNOWN:
            raise Refused(
                f"it could not be verified now: {prober.endpoint(key_id.kind)} gave no answer{detail}; try again", reason=Reason.UNVERIFIED
            )
        if answer.verdict is Verdict.DEAD:
            raise Refused(
                f"the service refuses it{detail}: see that it is complete and not revoked; one minted a moment ago may take some minutes",
                reason=Reason.NOT_ALIVE,
            )
        if answer.tools is None:
            return "accepted; what it may do could not be read"
        # Whichever of them gets it must be allowed to have it.
        allowed = frozenset.intersection(*(c.policy.allowed_tools for c in takers)) | PUBLISHED_TOOLS[key_id.kind]
        extra = sorted(set(answer.tools) - allowed)
        if extra:
            raise Refused(f"it lists tools beyond kind {key_id.kind}: {', '.join(extra)}", reason=Reason.BROADER_THAN_DECLARED)
        return "accepted"

    def _gather_held(self, wanted: set[KeyId]) -> dict[KeyId, str]:
        """Key → who has it already: by the journal's last looks, fresh reads of every credential of the kinds, and what waits elsewhere."""
        held: dict[KeyId, str] = {}
        for key_id in wanted:
            for name in self.engine.journal.find_holders(key_id, any_stage=True):
                held[key_id] = name
        kinds = {key_id.kind for key_id in wanted}
        asked = [c for c in self.engine.credentials.values() if c.policy.kind in kinds]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for credential, known in zip(asked, pool.map(_find_known, asked), strict=True):
                held.update(dict.fromkeys(known & wanted, credential.name))
        for name, shared in self.find_pools().items():
            held.update(dict.fromkeys(_find_spares(shared, "") & wanted, f"pool {name}"))
        return held

    def _tell(self, where: str, received: Sequence[Received], who: str, users: Sequence[Credential]) -> None:
        added = [one.key_id for one in received if one.accepted]
        log.info("keys were brought", action="supply", where=where, by=who, added=[str(key_id) for key_id in added], of=len(received))
        now = self.engine.clock.now()
        if added:
            # `where` is a credential's name, or that of a pool, which has a space in it and so is nobody else's.
            self.engine.journal.commit(where, *(Event(now, "note", "supply", key_id=key_id, text=f"by {who}") for key_id in added))
            self._wake(users)

    def _wake(self, credentials: Sequence[Credential]) -> None:
        """Whoever waits for a key looks again now."""
        for credential in credentials:
            if self.engine.mind.preflight.pop(credential.name, None) is not None:
                self.engine.runner.unblock(credential.name)
            self.engine.wake(credential.name, "never-synced")

    def _users(self, issuer: str) -> list[Credential]:
        return [c for c in self.engine.credentials.values() if c.issuer_name == issuer and c.policy.can_mint]

    def _get_pool(self, name: str) -> Supplied:
        pools = self.find_pools()
        if name not in pools:
            known = ", ".join(sorted(pools)) or "none"
            raise UnknownIssuer(f"no pool is called {name!r}; configured: {known}", reason=Reason.MISCONFIGURED)
        return pools[name]


def _add(key: Secret, verdict: str | RotatorError, add: Callable[[Secret], None]) -> Received:
    try:
        if isinstance(verdict, RotatorError):
            raise verdict
        add(key)
    except AnswerLost as problem:
        return Received(key.key_id, False, f"it may have been added, look whether it is there: {problem}", problem.reason)
    except RotatorError as problem:
        return Received(key.key_id, False, str(problem), problem.reason)
    return Received(key.key_id, True, verdict)


def _describe(credential: Credential) -> str:
    project = f" for project {credential.project}" if credential.project is not None else ""
    return f"{credential.policy.kind}_{credential.env}{project}"


def _find_known(credential: Credential) -> set[KeyId]:
    """Every key that a fresh look at a credential shows, in any stage or waiting for it; of one that cannot be read the journal knows."""
    known: set[KeyId] = set()
    try:
        holding = credential.store.read(credential.path)
    except RotatorError:
        return known
    if holding.current is not None:
        known.add(holding.current)
    if holding.record is not None:
        known |= holding.record.key_ids | {orphan.key_id for orphan in holding.record.orphans}
    if isinstance(credential.issuer, Supplied) and not credential.issuer.is_shared:
        known |= _find_spares(credential.issuer, credential.name)
    return known


def _find_spares(supplied: Supplied, credential: str) -> set[KeyId]:
    try:
        return {spare.key_id for spare in supplied.read_supplies(credential).spares}
    except RotatorError:
        return set()
