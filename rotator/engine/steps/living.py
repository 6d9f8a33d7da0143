"""Steps of a living key: probe, promote, adopt, retire, distribute; and the opening and closing of rotations."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from rotator.domain import decisions as do
from rotator.domain import record as store
from rotator.domain.errors import Conflict, RotatorError
from rotator.domain.facts import Adopted, Memory, Rotation, Verdict
from rotator.domain.keys import KeyId
from rotator.domain.ports import Answer, Delivery, EndRotation, Event, Line, Placement, SaveMemory, SavePlacement, SaveRotation
from rotator.domain.reasons import Reason
from rotator.domain.record import KeyEntry, Stage
from rotator.domain.timing import backoff
from rotator.engine.work import Lines, Work, new_id


def recognise(work: Work, action: do.Recognise) -> Lines:
    """Remember a record that this journal meets for the first time."""
    memory = Memory(uid=work.record.uid, generation=work.record.generation, place=work.credential.place, recovered=action.recovered)
    note = Event(work.now(), "note", "recognise", Reason.RECOVERED if action.recovered else None, text=f"uid {memory.uid}")
    return SaveMemory(memory), note


def open_rotation(work: Work, action: do.OpenRotation) -> Lines:
    """Open a rotation of the key that is current now."""
    rotation = Rotation(
        id=new_id(),
        reason=action.reason,
        opened_at=work.now(),
        replaces=action.replaces,
        candidate=action.candidate,
        emergency=action.reason is Reason.EMERGENCY,
    )
    return (SaveRotation(rotation), Event(work.now(), "note", "open", action.reason, process=rotation.id, key_id=action.replaces))


def close_rotation(work: Work, action: do.CloseRotation) -> Lines:
    """Close the open rotation, and leave the audit trail's head in the store's record."""
    current = work.look.facts.record.current if work.look.facts.record else None
    key_id = current.key_id if current else None
    if work.look.facts.record is not None and not work.credential.read_only:
        work.commit(store.NoteAudit(work.journal.id, work.journal.audit_head()))
    return (
        EndRotation(work.rotation.id, action.outcome, work.now(), key_id),
        Event(work.now(), "outcome", "close", action.outcome, process=work.rotation.id, key_id=key_id),
    )


def probe(work: Work, action: do.Probe) -> Lines:
    """Ask whether a key works; where it is refused, ask the witness too, so that the refusal can count (L20)."""
    secret = work.secret(action.key_id)
    if secret is None:
        raise Conflict(f"probing {action.key_id}: the store does not hold it any more")
    answer = _ask(work, action.key_id, work.credential.prober.probe(secret))
    lines: list[Line] = []
    witnessed = False
    witness = work.secret(action.witness) if action.witness is not None and answer.verdict is Verdict.DEAD else None
    if witness is not None and action.witness is not None:
        beside = _ask(work, action.witness, work.credential.prober.probe(witness))
        witnessed = beside.verdict is Verdict.ALIVE
        if witnessed and action.key_id == _pending(work):
            # One such refusal may give a new key up, and an outage may have ended between the two answers: ask once more.
            witnessed = _ask(work, action.key_id, work.credential.prober.probe(secret)).verdict is Verdict.DEAD
        if work.look.secret(action.witness) is not None:
            lines.append(work.saw(action.witness, beside, witnessed=False))
    saw = work.saw(action.key_id, answer, witnessed=witnessed)
    if saw.sightings.answer is not work.sightings(action.key_id).answer:
        text = f"{answer.verdict}{f' ({answer.detail})' if answer.detail else ''}"
        lines.append(Event(answer.at, "note", "probe", key_id=action.key_id, text=text, ok=answer.verdict is Verdict.ALIVE))
    _describe(work, action.key_id, answer)
    return (saw, *lines)


def _pending(work: Work) -> KeyId | None:
    record = work.look.facts.record
    return record.pending.key_id if record is not None and record.pending is not None else None


def _ask(work: Work, key_id: KeyId, answer: Answer) -> Answer:
    if answer.clock_offset is not None:
        work.mind.measure_clock(answer.clock_offset, work.clock.monotonic())
    entry = work.record.find(key_id) if work.look.facts.record else None
    secret = work.look.secret(key_id)
    kind = key_id.kind
    with work.mind.lock:
        if answer.verdict is Verdict.ALIVE and entry is not None and entry.stage is Stage.CURRENT and secret is not None:
            work.mind.witnesses[kind] = (work.credential.name, key_id, secret)
        elif answer.verdict is not Verdict.ALIVE and kind in work.mind.witnesses and work.mind.witnesses[kind][1] == key_id:
            del work.mind.witnesses[kind]
    return answer


def _describe(work: Work, key_id: KeyId, answer: Answer) -> None:
    """Keep what a key may do in the record, so that its successor can be measured against it (L12)."""
    entry = work.record.find(key_id) if work.look.facts.record else None
    if entry is None or answer.tools is None or entry.tools == answer.tools or work.credential.read_only:
        return
    work.commit(store.Describe(key_id, answer.tools))


def promote(work: Work, action: do.Promote) -> Lines:
    """The commit point (L13)."""
    holding = work.commit(store.Promote(action.key_id, action.replaces, work.now()))
    return _remember_generation(work, holding.record.generation if holding.record else 0)


def retire(work: Work, action: do.Retire) -> Lines:
    """Give a pending key up; from here its retirement ends it."""
    work.commit(store.Retire(action.key_id, work.now()))
    return (work.failed_rotation(work.rotation),) if action.failed and work.look.facts.rotation else ()


def adopt(work: Work, action: do.Adopt) -> Lines:
    """Accept a key from outside as current, under a new generation."""
    if work.credential.read_only:
        return _adopt_unwritten(work, action)
    now = work.now()
    facts = work.look.facts
    minted = work.look.holding.current_since or now
    uid = facts.record.uid if facts.record else facts.memory.uid if facts.memory else new_id()
    entry = KeyEntry(action.key_id, Stage.CURRENT, minted_at=minted, tools=work.sightings(action.key_id).tools)
    record = work.commit(store.Adopt(entry, now, uid, facts.policy.installation)).record
    if facts.record is None and facts.memory is None and record is not None:
        # The record is this journal's own: nothing was recovered, and nobody need accept it (L29).
        return (SaveMemory(Memory(uid=record.uid, generation=record.generation, place=work.credential.place)),)
    return _remember_generation(work, record.generation if record else 0)


def _adopt_unwritten(work: Work, action: do.Adopt) -> Lines:
    """L30: in the journal alone. The generation goes on from what targets have seen, should the journal be new."""
    facts, now = work.look.facts, work.now()
    memory = facts.memory or Memory(uid=new_id(), generation=0, place=work.credential.place)
    generation = max([memory.generation, *(t.generation or 0 for t in facts.targets)]) + 1
    adopted = Adopted(action.key_id, work.look.holding.current_since or now, now)
    return (SaveMemory(replace(memory, generation=generation, adopted=adopted)),)


def _remember_generation(work: Work, generation: int) -> Lines:
    memory = work.look.facts.memory
    return (SaveMemory(replace(memory, generation=max(memory.generation, generation))),) if memory else ()


def distribute(work: Work, action: do.Distribute) -> Lines:
    """Bring targets to the current key; one that fails holds the others back in nothing."""
    current = work.record.current
    assert current is not None
    secret = work.look.secret(current.key_id)
    if secret is None:
        raise Conflict(f"distributing {current.key_id}: the store does not hold it any more")
    credential = work.credential
    rotation = work.look.facts.rotation
    delivery = Delivery(
        credential=credential.name,
        secret=secret,
        generation=current.generation,
        endpoint=credential.prober.endpoint(current.key_id.kind),
        ours=_ours(work),
        rotation=rotation.id if rotation is not None else None,
    )
    lines: list[Line] = []
    for name in action.targets:
        lines += _deliver(work, name, delivery)
    work.failed.extend(line.text for line in lines if isinstance(line, Event) and not line.ok)
    return tuple(lines)


def _ours(work: Work) -> frozenset[KeyId]:
    return frozenset(k.key_id for k in work.record.keys)


def _deliver(work: Work, name: str, delivery: Delivery) -> Lines:
    key_id = delivery.secret.key_id
    before = next(p for p in work.look.placements if p.target == name)
    process = work.look.facts.rotation.id if work.look.facts.rotation else None
    try:
        observation = work.credential.target(name).target.deliver(delivery, work.look.observations[name])
    except RotatorError as problem:
        now = work.now()
        placement = _failed(work, before, problem, now)
        return SavePlacement(placement), Event(
            now, "note", "deliver", problem.reason, process=process, key_id=key_id, text=f"{name}: {problem}", ok=False
        )
    now = work.now()
    placement = Placement(name, observation.key_id, now, observation.generation, problem=observation.problem, text=observation.text)
    text = f"{name}: {observation.text}" if observation.text else name
    return SavePlacement(placement), Event(now, "note", "deliver", process=process, key_id=key_id, text=text)


def _failed(work: Work, before: Placement, problem: RotatorError, now: datetime) -> Placement:
    failures = before.failures + 1
    cap = work.timing.urgent_cap if work.credential.name in work.mind.urgent else work.timing.step_cap
    pause = backoff(failures, before.target, min(work.timing.step_base, cap), cap)
    if isinstance(problem, Conflict):
        pause = work.timing.step_base / 10
    return replace(before, failures=failures, retry_at=now + pause, problem=problem.reason, text=str(problem))
