"""The rules for clients' metadata, redirect URIs, scopes and PKCE: the specification's examples.

client-server-api#client-metadata, client-server-api#login-flows
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.errors import OAuthError
from homeserver.protocol.oauth.clients import Metadata, checked_metadata
from homeserver.protocol.oauth.requests import (
    Callback,
    authorization_request,
    proves,
    requested_scope,
    single,
)

CLIENT = {
    "client_uri": "https://example.com/",
    "redirect_uris": ["https://app.example.com/callback"],
}


def metadata(**more: Any) -> Metadata:
    return checked_metadata({**CLIENT, **more})


def error(**more: Any) -> str:
    with pytest.raises(OAuthError) as refused:
        metadata(**more)
    description = refused.value.message
    assert description.isascii()
    assert '"' not in description
    return refused.value.errcode


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.com/callback",
        "https://app.example.com/callback",
        "https://example.com:5173/?query=value",
    ],
)
def test_redirects_of_web_clients(uri: str) -> None:
    assert metadata(redirect_uris=[uri]).allows_redirect(uri)
    assert metadata(redirect_uris=[uri], application_type="native").allows_redirect(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.com/callback#fragment",
        "https://example.com/callback#",
        "http://example.com/callback",
        "http://localhost/",
        "https://user:password@example.com/",
        "https://user@example.com/",
        "https://app.com/callback",
        "https://notexample.com/",
        "https://example.com.evil.org/",
        "https://evil.org\\@example.com/",
        "https://evil.org;x.example.com/",
        "https://example.com:port/",
        "https:///callback",
        "com.example:/callback",
        "javascript:alert(1)",
        "callback",
        " https://example.com/",
        "https://example.com/\r\nSet-Cookie: a=b",
        "",
    ],
)
def test_redirects_that_no_web_client_has(uri: str) -> None:
    assert error(redirect_uris=[uri]) == "invalid_redirect_uri"


@pytest.mark.parametrize(
    "uri",
    [
        "com.example.app:/callback",
        "com.example:/",
        "com.example:callback",
        "http://localhost/callback",
        "http://127.0.0.1/callback",
        "http://[::1]/callback",
    ],
)
def test_redirects_of_native_clients(uri: str) -> None:
    assert metadata(redirect_uris=[uri], application_type="native").allows_redirect(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "example:/callback",
        "com.example.app://callback",
        "com.examples:/callback",
        "https://localhost/callback",
        "http://localhost:1234/callback",
        "http://localhost:/callback",
        "http://user@localhost/callback",
        "http://example.com/callback",
        "http://127.0.0.2/callback",
        "com.example:/callback#fragment",
    ],
)
def test_redirects_that_no_native_client_has(uri: str) -> None:
    assert error(redirect_uris=[uri], application_type="native") == "invalid_redirect_uri"


def test_any_port_on_the_loopback_interface_and_nowhere_else() -> None:
    uris = ["http://[::1]/callback", "http://localhost/callback", "https://example.com/callback"]
    native = metadata(redirect_uris=uris, application_type="native")
    assert native.allows_redirect("http://[::1]:8123/callback")
    assert native.allows_redirect("http://localhost:1/callback")
    for uri in (
        "http://127.0.0.1:8123/callback",
        "http://localhost:8123/other",
        "http://localhost:8123@evil.org/callback",
        "https://example.com:8123/callback",
    ):
        assert not native.allows_redirect(uri)


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_uri": "https://user@example.com/"},
        {"client_uri": "https://com/", "redirect_uris": ["https://example.com/"]},
        {"application_type": "desktop"},
        {"policy_uri": "http://example.com/policy"},
        {"tos_uri": "https://example.org/"},
        {"client_name": 5},
        {"response_types": ["token"]},
        {"grant_types": ["implicit"]},
        {"token_endpoint_auth_method": "private_key_jwt"},
    ],
)
def test_wrong_metadata(wrong: dict[str, Any]) -> None:
    assert error(**wrong) == "invalid_client_metadata"


def test_a_client_that_needs_no_redirects_has_none() -> None:
    device_code = "urn:ietf:params:oauth:grant-type:device_code"
    grant_types = [device_code, "refresh_token"]
    assert metadata(redirect_uris=[], grant_types=grant_types).redirect_uris == ()
    assert error(redirect_uris=[]) == "invalid_redirect_uri"


def test_pkce_by_the_example_of_its_rfc() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert proves(verifier, challenge)
    assert not proves(verifier[:-1] + "l", challenge)
    assert not proves(challenge, challenge)
    assert not proves("", challenge)


@given(st.text())
def test_a_scope_is_refused_or_names_its_device(text: str) -> None:
    try:
        scope = requested_scope("urn:matrix:client:api:* urn:matrix:client:device:" + text)
    except OAuthError as refused:
        assert refused.errcode == "invalid_scope"
    else:
        assert scope.text.endswith(scope.device_id)
        assert scope.device_id in text


def test_one_device_under_both_names_is_one() -> None:
    text = (
        "urn:matrix:client:api:* urn:matrix:org.matrix.msc2967.client:api:*"
        " urn:matrix:client:device:ABC urn:matrix:org.matrix.msc2967.client:device:ABC"
    )
    assert requested_scope(text).device_id == "ABC"
    assert requested_scope(text).text == text


def test_answers_are_added_to_what_the_address_has() -> None:
    answer = {"code": "a b"}
    assert Callback("https://a.b/?c=d", "query", "s").url(answer) == (
        "https://a.b/?c=d&state=s&code=a+b"
    )
    assert Callback("a.b:/c", "query", None).url(answer) == "a.b:/c?code=a+b"
    assert Callback("https://a.b/", "fragment", "s").url(answer) == "https://a.b/#state=s&code=a+b"


def test_parameters_come_once_and_empty_ones_not_at_all() -> None:
    assert single([("a", "b"), ("c", "")]) == {"a": "b"}
    with pytest.raises(OAuthError):
        single([("a", "b"), ("a", "b")])


@given(st.dictionaries(st.text(), st.text()))
def test_no_request_does_more_than_be_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(OAuthError):
        authorization_request(parameters)
