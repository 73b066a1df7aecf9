"""What a client or a remote server is told when a request can't be served.

Rules of this file: one subclass per `errcode`; the text is a sentence that helps the caller;
nothing here knows about HTTP beyond its status code.
client-server-api#standard-error-response
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MatrixError(Exception):
    """An answer with the specification's `errcode`, an HTTP `status` and a helpful sentence."""

    status = 400
    errcode = "M_UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        errcode: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.errcode = errcode or type(self).errcode
        self.status = status or type(self).status
        self.headers = dict(headers or {})
        self.fields = fields

    def body(self) -> dict[str, Any]:
        """The JSON object that the client gets."""
        return {"errcode": self.errcode, "error": self.message, **self.fields}


class Forbidden(MatrixError):
    status = 403
    errcode = "M_FORBIDDEN"


class BadState(MatrixError):
    """The change of state can't be: lifting a ban that there isn't."""

    status = 403
    errcode = "M_BAD_STATE"


class OtherUser(Forbidden):
    """The credentials are somebody else's: nothing that another attempt could mend."""


class MissingToken(MatrixError):
    status = 401
    errcode = "M_MISSING_TOKEN"


class UnknownToken(MatrixError):
    status = 401
    errcode = "M_UNKNOWN_TOKEN"


class Unauthorized(MatrixError):
    """A federation request whose X-Matrix signature is missing or wrong."""

    status = 401
    errcode = "M_UNAUTHORIZED"


class NotFound(MatrixError):
    status = 404
    errcode = "M_NOT_FOUND"


class Unrecognized(MatrixError):
    status = 404
    errcode = "M_UNRECOGNIZED"


class NotJson(MatrixError):
    errcode = "M_NOT_JSON"


class BadJson(MatrixError):
    errcode = "M_BAD_JSON"


class InvalidParam(MatrixError):
    errcode = "M_INVALID_PARAM"


class InvalidSignature(MatrixError):
    errcode = "M_INVALID_SIGNATURE"


class MissingParam(MatrixError):
    errcode = "M_MISSING_PARAM"


class UnknownError(MatrixError):
    errcode = "M_UNKNOWN"


class WrongRoomKeysVersion(MatrixError):
    """`current_version` tells the backup version to use instead."""

    status = 403
    errcode = "M_WRONG_ROOM_KEYS_VERSION"


class TooLarge(MatrixError):
    status = 413
    errcode = "M_TOO_LARGE"


class UserInUse(MatrixError):
    errcode = "M_USER_IN_USE"


class InvalidUsername(MatrixError):
    errcode = "M_INVALID_USERNAME"


class WeakPassword(MatrixError):
    errcode = "M_WEAK_PASSWORD"


class CannotLeaveServerNoticeRoom(MatrixError):
    status = 403
    errcode = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"


class UnknownDevice(MatrixError):
    errcode = "M_UNKNOWN_DEVICE"


class AppServiceLoginUnsupported(MatrixError):
    errcode = "M_APPSERVICE_LOGIN_UNSUPPORTED"


class Exclusive(MatrixError):
    errcode = "M_EXCLUSIVE"


class RoomInUse(MatrixError):
    errcode = "M_ROOM_IN_USE"


class BadAlias(MatrixError):
    errcode = "M_BAD_ALIAS"


class InvalidRoomState(MatrixError):
    errcode = "M_INVALID_ROOM_STATE"


class UnsupportedRoomVersion(MatrixError):
    errcode = "M_UNSUPPORTED_ROOM_VERSION"


class IncompatibleRoomVersion(MatrixError):
    errcode = "M_INCOMPATIBLE_ROOM_VERSION"


class DuplicateAnnotation(MatrixError):
    errcode = "M_DUPLICATE_ANNOTATION"


class UserDeactivated(MatrixError):
    status = 403
    errcode = "M_USER_DEACTIVATED"


class UserLocked(MatrixError):
    status = 401
    errcode = "M_USER_LOCKED"


class UserSuspended(MatrixError):
    status = 403
    errcode = "M_USER_SUSPENDED"


class GuestAccessForbidden(MatrixError):
    status = 403
    errcode = "M_GUEST_ACCESS_FORBIDDEN"


class InviteBlocked(MatrixError):
    status = 403
    errcode = "M_INVITE_BLOCKED"


class ServerNotTrusted(MatrixError):
    status = 403
    errcode = "M_SERVER_NOT_TRUSTED"


class ThreepidInUse(MatrixError):
    errcode = "M_THREEPID_IN_USE"


class ThreepidNotFound(MatrixError):
    errcode = "M_THREEPID_NOT_FOUND"


class ThreepidMediumNotSupported(MatrixError):
    errcode = "M_THREEPID_MEDIUM_NOT_SUPPORTED"


class ThreepidDenied(MatrixError):
    status = 403
    errcode = "M_THREEPID_DENIED"


class ThreepidAuthFailed(MatrixError):
    status = 403
    errcode = "M_THREEPID_AUTH_FAILED"


class LimitExceeded(MatrixError):
    """`retry_after_ms` is told in the body and, in whole seconds, as `Retry-After`."""

    status = 429
    errcode = "M_LIMIT_EXCEEDED"

    def __init__(self, retry_after_ms: int, message: str = "Too many requests") -> None:
        seconds = max(1, -(-retry_after_ms // 1000))
        super().__init__(
            message, headers={"Retry-After": str(seconds)}, retry_after_ms=retry_after_ms
        )


class Unavailable(MatrixError):
    """Our own trouble (the database is away, shutting down): worth trying again later."""

    status = 503
    errcode = "M_UNKNOWN"


class StorageFull(MatrixError):
    """Our disk is full."""

    status = 507


class CannotOverwriteMedia(MatrixError):
    status = 409
    errcode = "M_CANNOT_OVERWRITE_MEDIA"


class NotYetUploaded(MatrixError):
    """The media id exists, its content doesn't yet (client-server-api#content-repository)."""

    status = 504
    errcode = "M_NOT_YET_UPLOADED"


class BadGateway(MatrixError):
    """Another server gave us no useful answer."""

    status = 502


class OAuthError(MatrixError):
    """An answer of an OAuth 2.0 endpoint: `error` is a code of RFC 6749 (section 5.2) or of one of
    those that extend it, the text is ASCII without quotes."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(description, errcode=error, status=status)

    def body(self) -> dict[str, Any]:
        return {"error": self.errcode, "error_description": self.message}


class UnableToAuthoriseJoin(MatrixError):
    """We can't tell whether a restricted room's conditions are met: ask another server."""

    errcode = "M_UNABLE_TO_AUTHORISE_JOIN"


class UnableToGrantJoin(MatrixError):
    """The conditions are met, but none of our users may let anybody in: ask another server."""

    errcode = "M_UNABLE_TO_GRANT_JOIN"
