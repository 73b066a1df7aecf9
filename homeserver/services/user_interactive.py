"""User-Interactive Authentication: the stages by which a user proves who they are.

Rules of this file: a session belongs to one operation (an endpoint, and the user who calls it); it
ends when that operation has succeeded, or after a while; it lives in memory only: after a restart
the client is given a new one and proves the same again.
client-server-api#user-interactive-authentication-api
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct, field

from homeserver.clock import Clock
from homeserver.errors import BadJson, Forbidden, MatrixError, OtherUser, UnknownError
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache

LIFETIME_MS = 30 * 60 * 1000
MAX_SESSIONS = 10_000

Flows = Sequence[Sequence[str]]
Result = TypeVar("Result")


class Operation(Struct, frozen=True):
    """What is to be authenticated: an endpoint, called by a user (None: by nobody yet)."""

    name: str
    user_id: str | None


class Session(Struct):
    """How far the client has come. `results` has what each completed stage found out, `begun` what
    the operation wants to remember of its first request."""

    session_id: str
    operation: Operation
    flows: Flows
    expires_at: int
    results: dict[str, Any] = field(default_factory=dict)
    begun: Any = None


class Stage(Protocol):
    """One authentication type."""

    def params(self) -> JsonObject | None:
        """What a client has to know beforehand, if anything."""

    async def check(self, user_id: str | None, auth: JsonObject) -> Any:
        """What the stage found out, for the operation of this user (None: of nobody yet).

        Raises a `MatrixError` with status 401 or 403 if it wasn't passed, `OtherUser` if it never
        can be.
        """


class Dummy:
    """`m.login.dummy`: always passed."""

    def params(self) -> JsonObject | None:
        return None

    async def check(self, user_id: str | None, auth: JsonObject) -> Any:
        return True


class AuthenticationNeeded(MatrixError):
    """401 with the flows, the session, what is completed and, after a failure, why."""

    status = 401

    def __init__(self, answer: JsonObject, failure: MatrixError | None) -> None:
        super().__init__("More authentication is needed")
        self._answer = answer
        self._failure = failure.body() if failure is not None else {}
        if failure is not None:
            self.errcode = failure.errcode
            self.headers = failure.headers

    def body(self) -> JsonObject:
        return {**self._answer, **self._failure}


class UserInteractive:
    """The sessions of all clients in the middle of authenticating."""

    def __init__(self, stages: Mapping[str, Stage], clock: Clock) -> None:
        """`stages` are the known authentication types by name."""
        self._stages = stages
        self._clock = clock
        self._sessions: LruCache[str, Session] = LruCache(MAX_SESSIONS)

    async def run(
        self,
        operation: Operation,
        auth: JsonObject | None,
        flows: Flows,
        action: Callable[[Mapping[str, Any]], Awaitable[Result]],
        begun: Any = None,
    ) -> Result:
        """Do `action` once a flow is complete; it gets the results of the stages by type.

        Raises `AuthenticationNeeded` until then. `auth` is the `auth` object of the request;
        `begun` is kept with a new session.
        """
        if auth is None:
            raise self._needed(self._new_session(operation, flows, begun))
        session = self._session(operation, auth, flows)
        if "type" in auth:
            await self._attempt(session, auth)
        if not any(set(flow) <= set(session.results) for flow in flows):
            raise self._needed(session)
        result = await action(session.results)
        self._sessions.discard(session.session_id)
        return result

    async def attempt(self, session_id: str, auth: JsonObject) -> None:
        """Try a stage apart from the operation's own request, on a fallback page.

        Raises `AuthenticationNeeded` if it isn't passed, `UnknownError` if there is no session.
        """
        await self._attempt(self.session(session_id), auth)

    def session(self, session_id: Any) -> Session:
        """Raises `UnknownError` if there is no such session (any more)."""
        session = self._sessions.get(session_id) if isinstance(session_id, str) else None
        if session is None or session.expires_at <= self._clock():
            raise UnknownError("This authentication session is not known, or has expired")
        return session

    def _session(self, operation: Operation, auth: JsonObject, flows: Flows) -> Session:
        """The session that the client goes on with; without one, a new one."""
        if auth.get("session") is None:
            return self._new_session(operation, flows)
        session = self.session(auth["session"])
        if session.operation != operation:
            raise Forbidden("This authentication session was begun for something else")
        return session

    def begun(self, session_id: Any) -> Any:
        """What the session's operation remembers of its first request; None without a session."""
        session = self._sessions.get(session_id) if isinstance(session_id, str) else None
        return None if session is None else session.begun

    def params(self, stage_type: str) -> JsonObject:
        """What a client has to know of a stage beforehand."""
        return self._stages[stage_type].params() or {}

    def _new_session(self, operation: Operation, flows: Flows, begun: Any = None) -> Session:
        expires_at = self._clock() + LIFETIME_MS
        session = Session(secrets.token_urlsafe(18), operation, flows, expires_at, begun=begun)
        self._sessions.put(session.session_id, session)
        return session

    async def _attempt(self, session: Session, auth: JsonObject) -> None:
        """Try the stage that the client submits, if it is the next one in a flow."""
        stage_type = auth["type"]
        if not isinstance(stage_type, str):
            raise BadJson("`auth.type` must be a string")
        if stage_type in session.results:
            return
        if stage_type not in _next_stages(session):
            failure = Forbidden(f"{stage_type} is not the next stage of any flow")
            raise self._needed(session, failure)
        try:
            stage = self._stages[stage_type]
            session.results[stage_type] = await stage.check(session.operation.user_id, auth)
        except MatrixError as failure:
            if failure.status not in {401, 403} or isinstance(failure, OtherUser):
                raise
            raise self._needed(session, failure) from None

    def _needed(self, session: Session, failure: MatrixError | None = None) -> AuthenticationNeeded:
        params: JsonObject = {}
        for stage_type in {stage_type for flow in session.flows for stage_type in flow}:
            stage_params = self._stages[stage_type].params()
            if stage_params is not None:
                params[stage_type] = stage_params
        answer: JsonObject = {
            "flows": [{"stages": list(flow)} for flow in session.flows],
            "params": params,
            "session": session.session_id,
        }
        if session.results:
            answer["completed"] = list(session.results)
        return AuthenticationNeeded(answer, failure)


def _next_stages(session: Session) -> set[str]:
    """The first open stage of each flow: "the flow's stages must be completed in order"."""
    firsts: set[str] = set()
    for flow in session.flows:
        open_stages = [stage for stage in flow if stage not in session.results]
        firsts.update(open_stages[:1])
    return firsts
