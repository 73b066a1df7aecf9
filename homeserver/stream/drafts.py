"""A local user's draft becomes a signed event on a room's head, and is judged by the auth rules."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from homeserver.errors import BadJson, Forbidden, InvalidParam, TooLarge, UserSuspended
from homeserver.json_types import JsonObject
from homeserver.protocol.auth_rules import auth_event_keys, check_event
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.event_types import MEMBER, REDACTION
from homeserver.protocol.events import Event, Template, build_event
from homeserver.protocol.power_levels import power_levels_of
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.rejection import TooLarge as EventTooLarge
from homeserver.protocol.signatures import Signer, encode_base64, reference_hash
from homeserver.store.database import Database
from homeserver.store.state import StateKey
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.push_evaluator import parent_of
from homeserver.stream.redactions import Effect, effect_of
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.stripped_state import STRIPPED_KEYS

MAX_PREV_EVENTS = 20


class Draft(Struct, frozen=True):
    """What a local user wants to say. Few may set `origin_server_ts` (milliseconds)."""

    sender: str
    type: str
    content: JsonObject
    state_key: str | None = None
    redacts: str | None = None
    origin_server_ts: int | None = None
    redacts_only_own: bool = False
    """Of a suspended user, who may redact nothing else."""


class Transaction(Struct, frozen=True):
    """The device and the transaction id that a send came with."""

    user_id: str
    device_id: str
    transaction_id: str


class DraftEvents:
    """Makes and judges events of local users; what it needs is in memory after `load_needed`."""

    def __init__(self, database: Database, rooms: LiveRooms, signer: Signer) -> None:
        self._database = database
        self._rooms = rooms
        self.signer = signer

    async def load_needed(self, room: LiveRoom, drafts: Iterable[Draft]) -> None:
        """Bring into memory what building these drafts looks at; no query if it is there."""
        wanted: set[str] = set()
        state = room.head.state
        for draft in drafts:
            keys = auth_event_keys(
                room.rules, draft.type, draft.sender, draft.state_key, draft.content
            )
            keys.append(("m.room.create", ""))
            wanted.update(e for e in map(state.get, keys) if e is not None)
            if draft.state_key is not None:
                standing = state.get((draft.type, draft.state_key))
                wanted.update(() if standing is None else (standing,))
            if draft.type == MEMBER:
                wanted.update(e for e in map(state.get, STRIPPED_KEYS) if e is not None)
            wanted.update(e for e in (draft.redacts, parent_of(draft.content)) if e is not None)
        if room.rules.event_id_in_pdu:
            wanted.update(room.head.forward_extremities)
        missing = [e for e in wanted if self.find(room, e) is None]
        if not missing:
            return
        async with self._database.connection() as connection:
            found = await self._rooms.events.get_many(connection, missing, self._rooms.rules_of)
        # Held here for as long as the room's head may need them, whatever the cache lets go.
        room.needed = {e: s for e in wanted if (s := found.get(e) or self.find(room, e))}

    def find(self, room: LiveRoom, event_id: str) -> StoredEvent | None:
        return (
            room.pending.get(event_id)
            or self._rooms.events.peek(event_id)
            or room.needed.get(event_id)
        )

    def check(self, room: LiveRoom, event: Event, auth: Mapping[StateKey, StoredEvent]) -> None:
        """Raises Forbidden unless the auth rules allow the event."""
        try:
            check_event(room.rules, event, {key: s.event for key, s in auth.items()})
        except Rejected as rejected:
            raise Forbidden(rejected.reason) from None

    def auth_events(self, room: LiveRoom, draft: Draft) -> dict[StateKey, StoredEvent]:
        state = room.head.state
        found: dict[StateKey, StoredEvent] = {}
        keys = auth_event_keys(room.rules, draft.type, draft.sender, draft.state_key, draft.content)
        for key in (*keys, ("m.room.create", "")):
            event_id = state.get(key)
            if event_id is None:
                continue
            stored = self.find(room, event_id)
            assert stored is not None, "_load_needed brought it"
            found[key] = stored
        return found

    def event(self, room: LiveRoom, draft: Draft, auth: Sequence[StoredEvent]) -> Event:
        rules = room.rules
        prev_events = room.head.forward_extremities[-MAX_PREV_EVENTS:]
        auth_ids = [
            stored.event_id
            for stored in auth
            if not (rules.room_id_is_create_event_id and stored.type == "m.room.create")
        ]
        template = Template(
            room_id=room.room_id,
            type=draft.type,
            sender=draft.sender,
            content=draft.content,
            origin_server_ts=draft.origin_server_ts or int(time.time() * 1000),
            depth=room.head.depth + 1,
            prev_events=prev_events,
            auth_events=auth_ids,
            state_key=draft.state_key,
            redacts=draft.redacts,
        )
        if rules.event_id_in_pdu:
            template = self._with_chosen_id(room, template)
        try:
            return build_event(rules, template, self.signer)
        except CanonicalJsonError as error:
            raise BadJson(f"The event has no canonical JSON form: {error}") from None
        except EventTooLarge as rejected:
            raise TooLarge(rejected.reason) from None
        except Rejected as rejected:
            raise BadJson(rejected.reason) from None

    def _with_chosen_id(self, room: LiveRoom, template: Template) -> Template:
        hashes = {}
        for event_id in (*template.prev_events, *template.auth_events):
            stored = self.find(room, event_id)
            if stored is not None:
                hashes[event_id] = encode_base64(reference_hash(stored.event.pdu, room.rules))
        return replace(template, event_id=self.new_event_id(), reference_hashes=hashes)

    def new_event_id(self) -> str:
        """An event id of ours, for room versions in which it is chosen."""
        return f"${secrets.token_urlsafe(16)}:{self.signer.server_name}"

    def redaction_effect(self, room: LiveRoom, event: Event, only_own: bool) -> Effect | None:
        """What a redaction does, None for other events. Raises Forbidden if its sender may not."""
        if event.type != REDACTION or event.redacts is None:
            return None
        target = self.find(room, event.redacts)
        if only_own and (target is None or target.event.sender != event.sender):
            raise UserSuspended("While your account is suspended you may redact only your events")
        if target is not None and target.event.room_id != room.room_id:
            raise InvalidParam("The event to redact is in another room")
        if target is not None and target.type == "m.room.create":
            raise Forbidden("The create event of a room can't be redacted")
        state = {key: s.event for key, s in self._power_state(room).items()}
        create = state["m.room.create", ""]
        power = power_levels_of(room.rules, create, state.get(("m.room.power_levels", "")))
        effect = effect_of(event, target, power)
        if target is None and power.user(event.sender) < power.redact:
            # It would be shown here, and withheld everywhere else.
            raise Forbidden("You may redact only your own events here, and this one isn't known")
        if target is None:
            return effect
        # Other servers let a server redact what its own users said: it is ours to see to it that
        # only they themselves do.
        by_right = power.user(event.sender) >= power.redact or target.sender == event.sender
        if not by_right or effect.target is None:
            raise Forbidden("You may redact only your own events here: your power level is too low")
        return effect

    def _power_state(self, room: LiveRoom) -> dict[StateKey, StoredEvent]:
        found = {}
        for key in (("m.room.create", ""), ("m.room.power_levels", "")):
            event_id = room.head.state.get(key)
            stored = None if event_id is None else self.find(room, event_id)
            if stored is not None:
                found[key] = stored
        return found
