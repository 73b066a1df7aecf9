"""What a page says about itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from homeserver.services.previews.hosts import Hosts, parse_url
from homeserver.services.previews.page import MAX_DESCRIPTION, MAX_VALUE, add_oembed, read_page

BASE = URL("https://example.org/a/page.html")


def properties(html: str | bytes, charset: str | None = None) -> dict[str, str]:
    body = html.encode() if isinstance(html, str) else html
    return read_page(body, charset, BASE).properties


def test_opengraph_is_taken_first() -> None:
    page = read_page(
        b"""<html><head><title>Plain</title>
        <meta property="og:title" content=" Open \n Graph "/>
        <meta property="og:title" content="second"/>
        <meta name="twitter:title" content="Twitter"/>
        <meta name="description" content="Described"/>
        <meta property="og:type" content="article"/>
        <meta property="og:image" content="../pic.png"/>
        <meta property="og:image:width" content="9000"/>
        <link rel="alternate" type="application/json+oembed" href="/oembed?x=1">
        </head><body><p>Text""",
        None,
        BASE,
    )
    assert page.properties == {
        "og:title": "Open Graph",
        "og:type": "article",
        "og:description": "Described",
    }
    assert page.image == URL("https://example.org/pic.png")
    assert page.oembed == URL("https://example.org/oembed?x=1")


def test_a_plain_page_has_its_title_and_its_first_words() -> None:
    assert properties(
        "<title>The title</title><body><nav>Menu</nav><script>var x</script>"
        "<style>p{}</style><p>Hello <b>bold</b> world</p><p>More"
    ) == {"og:title": "The title", "og:description": "Hello bold world More"}
    assert properties("<h1>Only <i>this</i></h1>")["og:title"] == "Only this"


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        ("<title>naïve – 猫</title>".encode(), None),
        ("<title>naïve – 猫</title>".encode("utf-16"), "utf-16"),
        (b"<meta charset=shift_jis><title>na\x83\xc0</title>", None),
        ("<title>naïve</title>".encode("latin-1"), None),
        ("<title>naïve</title>".encode("latin-1"), "iso-8859-1"),
        ("<title>naïve</title>".encode(), "no-such-charset"),
        ("<title>naïve</title>".encode(), "hex"),
    ],
)
def test_charsets(body: bytes, charset: str | None) -> None:
    assert properties(body, charset)["og:title"].startswith("na")
    assert "\ufffd" not in properties(body, charset)["og:title"]


def test_texts_are_bounded() -> None:
    html = f"<title>{'t' * 5000}</title><body>{'word ' * 5000}" + "".join(
        f'<meta property="og:x{i}" content="{i}">' for i in range(500)
    )
    found = properties(html)
    assert len(found) <= 42
    assert all(len(value) <= MAX_VALUE for value in found.values())
    assert len(found["og:description"]) <= MAX_DESCRIPTION


def test_a_page_nested_very_deeply_is_read() -> None:
    assert properties("<title>deep</title>" + "<div>" * 100_000)["og:title"] == "deep"


@given(st.binary(max_size=2000), st.sampled_from([None, "utf-8", "utf-16", "x"]))
@settings(max_examples=200)
def test_whatever_the_page_is_something_comes_out(body: bytes, charset: str | None) -> None:
    page = read_page(b"<html>" + body, charset, BASE)
    add_oembed(page, body, BASE)
    for value in page.properties.values():
        value.encode()


def test_oembed_fills_in_what_is_missing() -> None:
    page = read_page(b"<title>Page</title>", None, BASE)
    add_oembed(
        page,
        b'{"type": "rich", "title": "Other", "author_name": "Ann", "provider_name": "Prov",'
        b' "html": "<blockquote>Quoted <a>text</a></blockquote>", "thumbnail_url": "/t.png"}',
        BASE,
    )
    assert page.properties == {
        "og:title": "Page",
        "og:site_name": "Prov",
        "og:article:author": "Ann",
        "og:description": "Quoted text",
    }
    assert page.image == URL("https://example.org/t.png")
    for nonsense in (b"", b"[]", b"{", b'{"title": 5, "thumbnail_url": {}}'):
        add_oembed(page, nonsense, BASE)


def test_the_lists_of_hosts() -> None:
    hosts = Hosts(["example.org", "*.example.org"], ["evil.example.org"])
    for url in ("https://example.org/", "http://a.b.example.org:81/", "https://EXAMPLE.org./"):
        assert hosts.allows(URL(url)), url
    for url in (
        *("https://evil.example.org/", "https://example.org.evil.net/", "https://notexample.org/"),
        *("ftp://example.org/", "file:///etc/passwd", "https://u:p@example.org/", "javascript:1"),
        "https://example.org/" + "a" * 3000,
    ):
        assert not hosts.allows(URL(url)), url
    assert Hosts([], []).allows(URL("https://anything.net"))


@pytest.mark.parametrize("text", ["", "a", "//x", "http://", "http://[::1", "http://a:99999999/"])
def test_what_is_no_url(text: str) -> None:
    url = parse_url(text)
    assert url is None or not Hosts([], []).allows(url)
