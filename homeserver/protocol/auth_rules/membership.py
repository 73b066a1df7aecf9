"""The rule "If type is `m.room.member`" (number 4 or 5, by room version)."""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.protocol.auth_rules.selection import CREATE, JOIN_RULES
from homeserver.protocol.auth_rules.third_party_invites import check_third_party_invite
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.power_levels import PowerLevels, creator_of
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import RoomVersion

State = Mapping[StateKey, Event]


def membership_of(state: State, user_id: str) -> str | None:
    """A user's membership in a state; None stands for no `m.room.member` event."""
    member = state.get(("m.room.member", user_id))
    return None if member is None else member.membership


def join_rule_of(state: State) -> str:
    """The room's join rule, `invite` where none is set."""
    event = state.get(JOIN_RULES)
    rule = None if event is None else event.content.get("join_rule")
    return rule if isinstance(rule, str) else "invite"


def check_membership(rules: RoomVersion, event: Event, state: State, power: PowerLevels) -> None:
    """Raises Rejected unless the change of membership is allowed."""
    # "If there is no state_key property, or no membership property in content, reject."
    if event.state_key is None or "membership" not in event.content:
        raise Rejected("m.room.member has no state_key or no membership")
    # (v8+) "If content has a join_authorised_via_users_server key: If the event is not validly
    # signed by the homeserver of the user ID denoted by the key, reject." The signature was checked
    # on receipt (`required_signers`); what is no user id can't be signed for.
    authoriser = event.content.get("join_authorised_via_users_server", "@:x")
    if rules.restricted_joins and not is_user_id(authoriser):
        raise Rejected("join_authorised_via_users_server is not a user id")
    match event.membership:
        case "join":
            _check_join(rules, event, state, power)
        case "invite":
            _check_invite(event, state, power)
        case "leave":
            _check_leave(rules, event, state, power)
        case "ban":
            _check_ban(event, state, power)
        case "knock" if rules.knocking:
            _check_knock(rules, event, state)
        case _:
            # "Otherwise, the membership is unknown. Reject."
            raise Rejected("the membership is unknown")


def _check_join(rules: RoomVersion, event: Event, state: State, power: PowerLevels) -> None:
    # "If the only previous event is an m.room.create and the state_key is the creator (v11+: the
    # sender of the m.room.create), allow."
    create = state[CREATE]
    if event.prev_events == (create.event_id,) and event.state_key == creator_of(rules, create):
        return
    # "If the sender does not match state_key, reject."
    if event.sender != event.state_key:
        raise Rejected("nobody can join for somebody else")
    membership = membership_of(state, event.sender)
    # "If the sender is banned, reject."
    if membership == "ban":
        raise Rejected("the sender is banned")
    join_rule = join_rule_of(state)
    # "If the join_rule is public, allow."
    if join_rule == "public":
        return
    # "If the join_rule is invite or knock then allow if membership state is invite or join", knock
    # from v7 on. (v8+) "If the join_rule is restricted or knock_restricted (v10+): If membership
    # state is join or invite, allow."
    restricted = _is_restricted(rules, join_rule)
    invited = membership in ("invite", "join")
    if invited and (restricted or join_rule == "invite" or _is_knock(rules, join_rule)):
        return
    if not restricted:
        # "Otherwise, reject."
        raise Rejected(f"the join rule {join_rule!r} doesn't let the sender join")
    _check_authoriser(event, state, power)


def _is_restricted(rules: RoomVersion, join_rule: str) -> bool:
    return (join_rule == "restricted" and rules.restricted_joins) or (
        join_rule == "knock_restricted" and rules.knock_restricted
    )


def _is_knock(rules: RoomVersion, join_rule: str) -> bool:
    return (join_rule == "knock" and rules.knocking) or (
        join_rule == "knock_restricted" and rules.knock_restricted
    )


def _check_authoriser(event: Event, state: State, power: PowerLevels) -> None:
    # "If the join_authorised_via_users_server key in content is not a user with sufficient
    # permission to invite other users or is not a joined member of the room, reject."
    authoriser = event.content.get("join_authorised_via_users_server")
    if not isinstance(authoriser, str):
        raise Rejected("a restricted join needs join_authorised_via_users_server")
    if membership_of(state, authoriser) != "join":
        raise Rejected("join_authorised_via_users_server is not a joined member")
    if power.user(authoriser) < power.invite:
        raise Rejected("join_authorised_via_users_server may not invite")


def _check_invite(event: Event, state: State, power: PowerLevels) -> None:
    assert event.state_key is not None
    # "If content has a third_party_invite property"
    if "third_party_invite" in event.content:
        check_third_party_invite(event, state)
        return
    # "If the sender's current membership state is not join, reject."
    _check_joined(event, state)
    # "If target user's current membership state is join or ban, reject."
    if membership_of(state, event.state_key) in ("join", "ban"):
        raise Rejected("the invited user is joined or banned")
    # "If the sender's power level is greater than or equal to the invite level, allow."
    if power.user(event.sender) < power.invite:
        raise Rejected("the sender's power level is less than the invite level")


def _check_leave(rules: RoomVersion, event: Event, state: State, power: PowerLevels) -> None:
    assert event.state_key is not None
    target_membership = membership_of(state, event.state_key)
    # "If the sender matches state_key, allow if and only if that user's current membership state is
    # invite, join, or knock (v7+)."
    if event.sender == event.state_key:
        may_leave = ("invite", "join", "knock") if rules.knocking else ("invite", "join")
        if target_membership not in may_leave:
            raise Rejected("the sender is not in the room and can't leave it")
        return
    # "If the sender's current membership state is not join, reject."
    _check_joined(event, state)
    sender_power = power.user(event.sender)
    # "If the target user's current membership state is ban, and the sender's power level is less
    # than the ban level, reject."
    if target_membership == "ban" and sender_power < power.ban:
        raise Rejected("the sender's power level is less than the ban level")
    # "If the sender's power level is greater than or equal to the kick level, and the target user's
    # power level is less than the sender's power level, allow."
    if sender_power < power.kick:
        raise Rejected("the sender's power level is less than the kick level")
    if power.user(event.state_key) >= sender_power:
        raise Rejected("the target's power level is not less than the sender's")


def _check_ban(event: Event, state: State, power: PowerLevels) -> None:
    assert event.state_key is not None
    # "If the sender's current membership state is not join, reject."
    _check_joined(event, state)
    sender_power = power.user(event.sender)
    # "If the sender's power level is greater than or equal to the ban level, and the target user's
    # power level is less than the sender's power level, allow."
    if sender_power < power.ban:
        raise Rejected("the sender's power level is less than the ban level")
    if power.user(event.state_key) >= sender_power:
        raise Rejected("the target's power level is not less than the sender's")


def _check_knock(rules: RoomVersion, event: Event, state: State) -> None:
    """From version 7 on."""
    # "If the join_rule is anything other than knock or knock_restricted, reject", the latter from
    # v10 on.
    if not _is_knock(rules, join_rule_of(state)):
        raise Rejected("the join rule doesn't allow knocking")
    # "If sender does not match state_key, reject."
    if event.sender != event.state_key:
        raise Rejected("nobody can knock for somebody else")
    # "If the sender's current membership is not ban, invite, or join, allow."
    if membership_of(state, event.sender) in ("ban", "invite", "join"):
        raise Rejected("the sender is banned, invited or joined and can't knock")


def _check_joined(event: Event, state: State) -> None:
    if membership_of(state, event.sender) != "join":
        raise Rejected("the sender is not joined to the room")
