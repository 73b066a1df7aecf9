"""What a page says about itself: OpenGraph, then Twitter's and plain HTML's ways; oEmbed.

Rules of this file: pure; everything that comes out is text of bounded length.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field
from yarl import URL

from homeserver.json_types import BAD_JSON

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

MAX_PROPERTIES = 40
MAX_VALUE = 1000
MAX_DESCRIPTION = 500
OEMBED_TYPE = "application/json+oembed"

_META_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([A-Za-z0-9_:.-]{1,40})""", re.I
)
# Said instead of OpenGraph by other pages, best first.
_INSTEAD = {
    "og:title": ("twitter:title", "dc.title"),
    "og:description": ("twitter:description", "description", "dc.description"),
    "og:image": ("og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src"),
    "og:site_name": ("application-name",),
}
_NO_TEXT = {"script", "style", "noscript", "template", "nav", "header", "footer", "aside", "svg"}
_NEVER = {"og:image:url", "og:image:secure_url", "og:image:width", "og:image:height"}
_NEVER |= {"og:image:type", "og:image:alt"}


class Page(Struct):
    """`properties` is OpenGraph data; `image` and `oembed` are absolute URLs, yet to be fetched."""

    properties: dict[str, str] = field(default_factory=dict)
    image: URL | None = None
    oembed: URL | None = None


def read_page(body: bytes, charset: str | None, url: URL) -> Page:
    """A page in HTML. Whatever it is, something comes out; it may be empty."""
    root = _parsed(body, charset)
    page = Page()
    if root is None:
        return page
    metas = _metas(root)
    for name, value in metas.items():
        if name.startswith("og:") and name not in _NEVER and len(page.properties) < MAX_PROPERTIES:
            page.properties[name] = value
    for name, others in _INSTEAD.items():
        if name not in page.properties:
            said = next((metas[other] for other in others if other in metas), None)
            if said is not None:
                page.properties[name] = said
    _fill_from_text(page.properties, root)
    page.image = _absolute(page.properties.pop("og:image", None), url)
    page.oembed = _absolute(_oembed_link(root), url)
    return page


def add_oembed(page: Page, body: bytes, url: URL) -> None:
    """Fill in what an oEmbed answer (JSON) knows and the page didn't say. (oembed.com)"""
    try:
        answer: Any = msgspec.json.decode(body)
    except BAD_JSON:
        return
    if not isinstance(answer, dict):
        return
    for name, key in (
        ("og:title", "title"),
        ("og:site_name", "provider_name"),
        ("og:article:author", "author_name"),
    ):
        value = _clean(answer.get(key))
        if value:
            page.properties.setdefault(name, value)
    html = answer.get("html")
    if answer.get("type") == "rich" and isinstance(html, str):
        root = _parsed(html[:100_000].encode("utf-8", "replace"), "utf-8")
        if root is not None and (text := _text(root)):
            page.properties.setdefault("og:description", text)
    if page.image is None:
        page.image = _absolute(_clean(answer.get("thumbnail_url")), url)


def _parsed(body: bytes, charset: str | None) -> Element | None:
    from lxml import etree  # only once a page is read

    text = _decoded(body, charset).replace("\0", "").encode()
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(text, parser)
    except (etree.LxmlError, ValueError):
        return None


def _decoded(body: bytes, charset: str | None) -> str:
    """As the header says, or the page itself, or UTF-8, or what the old web was written in."""
    said = _META_CHARSET.search(body[:4096])
    for name in (charset, said[1].decode("ascii") if said else None):
        try:
            if name and codecs.lookup(name)._is_text_encoding:
                return body.decode(name, "replace")
        except (LookupError, ValueError):
            continue
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        if error.start > len(body) - 4:  # cut off within a character
            return body.decode("utf-8", "replace")
        return body.decode("cp1252", "replace")


def _metas(root: Element) -> dict[str, str]:
    """The first value of each <meta property=… content=…> (or name=…), by its lower-case name."""
    found: dict[str, str] = {}
    for element in root.iter("meta"):
        name = (element.get("property") or element.get("name") or "").strip().lower()
        value = _clean(element.get("content"))
        if name and value and len(name) <= 100:
            found.setdefault(name, value)
    return found


def _fill_from_text(properties: dict[str, str], root: Element) -> None:
    """Title and description from the page's own text, where nothing says them."""
    for tag in ("title", "h1", "h2"):
        if "og:title" in properties:
            break
        for element in root.iter(tag):
            if title := _clean(" ".join(element.itertext())):  # type: ignore[arg-type]
                properties["og:title"] = title
                break
    if "og:description" not in properties:
        body = next(root.iter("body"), None)
        if body is not None and (text := _text(body)):
            properties["og:description"] = text


def _text(root: Element) -> str:
    """The beginning of what a reader reads."""
    from lxml import etree

    words: list[str] = []
    length = 0
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        text = element.text if event == "start" else element.tail
        if event == "start" and element.tag in _NO_TEXT:
            walk.skip_subtree()
            continue
        if text and not (event == "end" and element is root):
            words.append(" ".join(text.split()))
            length += len(words[-1]) + 1
        if length > MAX_DESCRIPTION:
            break
    return _shortened(" ".join(word for word in words if word))


def _shortened(text: str) -> str:
    if len(text) <= MAX_DESCRIPTION:
        return text
    return text[: MAX_DESCRIPTION - 1].rpartition(" ")[0] + "…"


def _oembed_link(root: Element) -> str | None:
    for element in root.iter("link"):
        if (element.get("type") or "").strip().lower() == OEMBED_TYPE:
            return element.get("href")
    return None


def _clean(value: object) -> str | None:
    """A text of one line, or None."""
    if not isinstance(value, str):
        return None
    return " ".join(value[: 4 * MAX_VALUE].split())[:MAX_VALUE] or None


def _absolute(value: str | None, url: URL) -> URL | None:
    if not value:
        return None
    try:
        return url.join(URL(value.strip()))
    except ValueError:
        return None
