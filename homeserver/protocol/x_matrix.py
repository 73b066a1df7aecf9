"""The `Authorization: X-Matrix` header with which servers sign their requests.

server-server-api#request-authentication
"""

from __future__ import annotations

import re

from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError, encode, encode_lenient
from homeserver.protocol.identifiers import is_server_name
from homeserver.protocol.signatures import Signer

# "For compatibility with older servers, the recipient should allow colons to be included in
# values without requiring the value to be enclosed in quotes." Base64's `/` and `=` as well.
_PARAMETER = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*"
    r'(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s",]+))[ \t]*'
)
_MAX_HEADER = 4096


class XMatrixError(ValueError):
    """The header can't be read; the text says why."""


class XMatrix(Struct, frozen=True):
    """The header's parameters. Older servers leave out the destination."""

    origin: str
    destination: str | None
    key_id: str
    signature: str


def parse_x_matrix(header: str) -> XMatrix:
    """The parameters of an Authorization header. Raises XMatrixError."""
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "x-matrix":
        raise XMatrixError("the scheme of the Authorization header must be X-Matrix")
    parameters = _parameters(text)
    missing = {"origin", "key", "sig"} - set(parameters)
    if missing:
        raise XMatrixError(f"the X-Matrix header lacks {', '.join(sorted(missing))}")
    if not is_server_name(parameters["origin"]):
        raise XMatrixError("the origin in the X-Matrix header is not a server name")
    return XMatrix(
        parameters["origin"],
        parameters.get("destination"),
        parameters["key"],
        parameters["sig"],
    )


def _parameters(text: str) -> dict[str, str]:
    if len(text) > _MAX_HEADER:
        raise XMatrixError("the X-Matrix header is too long")
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or text[match.end() : match.end() + 1] not in ("", ","):
            raise XMatrixError("the X-Matrix header is malformed")
        name, quoted, token = match.groups()
        value = token if quoted is None else _unescaped(quoted)
        if found.setdefault(name.lower(), value) != value:
            raise XMatrixError(f"the X-Matrix header gives {name} twice")
        position = match.end() + 1
    return found


def _unescaped(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted) if "\\" in quoted else quoted


def request_message(
    method: str, uri: str, origin: str, destination: str | None, content: JsonObject | None
) -> bytes:
    """The bytes that are signed; `uri` is the path with the query. Raises CanonicalJsonError."""
    request: JsonObject = {"method": method, "uri": uri, "origin": origin}
    if destination is not None:
        request["destination"] = destination
    if content is not None:
        request["content"] = content
    try:
        return encode(request)
    except CanonicalJsonError:
        return encode_lenient(request)  # events of rooms of the versions 1 to 5


def authorization(
    signer: Signer, method: str, uri: str, destination: str, content: JsonObject | bytes | None
) -> str:
    """The header's value for a request of ours; `content` may be canonical JSON already.

    Raises CanonicalJsonError.
    """
    origin = signer.server_name
    if isinstance(content, bytes):
        # "content" is the first of the keys.
        rest = request_message(method, uri, origin, destination, None)
        message = b'{"content":' + content + b"," + rest[1:]
    else:
        message = request_message(method, uri, origin, destination, content)
    signature = signer.sign(message)
    return (
        f'X-Matrix origin="{origin}",destination="{destination}",'
        f'key="{signer.key_id}",sig="{signature}"'
    )
