"""Push rules. client-server-api#push-rules-api"""

from __future__ import annotations

from homeserver.errors import MissingParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol.push_rules import (
    delete_rule,
    get_rule,
    parse_rule,
    put_rule,
    ruleset,
    set_actions,
    set_enabled,
)

endpoints = Endpoints()

RULE = "/pushrules/global/{kind}/{rule_id}"


@endpoints.get("/pushrules/", auth=Auth.USER, also=("/pushrules",))
async def get_push_rules(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3pushrules"""
    return {"global": await _ruleset(call)}


@endpoints.get("/pushrules/global/", auth=Auth.USER, also=("/pushrules/global",))
async def get_global_push_rules(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv3pushrulesglobal"""
    return await _ruleset(call)


@endpoints.get(RULE, auth=Auth.USER)
async def get_push_rule(call: Call, kind: str, rule_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3pushrulesglobalkindruleid"""
    user_id = call.requester.user_id
    settings = call.parts.push_rule_settings
    return get_rule(await settings.get(user_id), settings.defaults, user_id, kind, rule_id)


@endpoints.put(RULE, auth=Auth.USER)
async def set_push_rule(call: Call, kind: str, rule_id: str, body: JsonObject) -> JsonObject:
    """client-server-api#put_matrixclientv3pushrulesglobalkindruleid"""
    rule = parse_rule(kind, rule_id, body)
    before, after = call.query("before"), call.query("after")
    await call.parts.push_rule_settings.change(
        call.requester.user_id, lambda rules: put_rule(rules, kind, rule, before, after)
    )
    return {}


@endpoints.delete(RULE, auth=Auth.USER)
async def delete_push_rule(call: Call, kind: str, rule_id: str) -> JsonObject:
    """client-server-api#delete_matrixclientv3pushrulesglobalkindruleid"""
    await call.parts.push_rule_settings.change(
        call.requester.user_id, lambda rules: delete_rule(rules, kind, rule_id)
    )
    return {}


@endpoints.get(RULE + "/enabled", auth=Auth.USER)
async def is_push_rule_enabled(call: Call, kind: str, rule_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3pushrulesglobalkindruleidenabled"""
    rule = await get_push_rule(call, kind, rule_id)
    return {"enabled": rule["enabled"]}


@endpoints.put(RULE + "/enabled", auth=Auth.USER)
async def set_push_rule_enabled(
    call: Call, kind: str, rule_id: str, body: JsonObject
) -> JsonObject:
    """client-server-api#put_matrixclientv3pushrulesglobalkindruleidenabled"""
    enabled = _member(body, "enabled")
    settings = call.parts.push_rule_settings
    await settings.change(
        call.requester.user_id,
        lambda rules: set_enabled(rules, settings.defaults, kind, rule_id, enabled),
    )
    return {}


@endpoints.get(RULE + "/actions", auth=Auth.USER)
async def get_push_rule_actions(call: Call, kind: str, rule_id: str) -> JsonObject:
    """client-server-api#get_matrixclientv3pushrulesglobalkindruleidactions"""
    rule = await get_push_rule(call, kind, rule_id)
    return {"actions": rule["actions"]}


@endpoints.put(RULE + "/actions", auth=Auth.USER)
async def set_push_rule_actions(
    call: Call, kind: str, rule_id: str, body: JsonObject
) -> JsonObject:
    """client-server-api#put_matrixclientv3pushrulesglobalkindruleidactions"""
    actions = _member(body, "actions")
    settings = call.parts.push_rule_settings
    await settings.change(
        call.requester.user_id,
        lambda rules: set_actions(rules, settings.defaults, kind, rule_id, actions),
    )
    return {}


async def _ruleset(call: Call) -> JsonObject:
    user_id = call.requester.user_id
    settings = call.parts.push_rule_settings
    return ruleset(await settings.get(user_id), settings.defaults, user_id)


def _member(body: JsonObject, name: str) -> object:
    if name not in body:
        raise MissingParam(f"The body has no `{name}`")
    return body[name]
