"""HTML that can't be broken out of, and the pages made of it.

Rules of this file: what is put into a template is escaped unless it is `Html`; a page has no
script, is in no frame and in no cache, and sends its forms nowhere but where it says.
"""

from __future__ import annotations

import base64
import hashlib
import html as escaping
from collections.abc import Mapping

from aiohttp.web import Response

_STYLE = """
:root { color-scheme: light dark }
body { font: 1.05rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: auto; padding: 2rem 1rem }
label, input { display: block; font: inherit }
input:not([type=checkbox]) { width: 100%; box-sizing: border-box; padding: .4rem }
input[type=checkbox] { display: inline }
button { font: inherit; padding: .4rem 1.2rem; margin-right: .5rem }
code { background: #8882; padding: 0 .3em; overflow-wrap: anywhere }
.problem { border-left: .3rem solid #c33; padding-left: .7rem }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEAD = f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<style>{_STYLE}</style>
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def html(template: str, **values: object) -> Html:
    """The template with `{name}` filled in, escaped where it isn't `Html`."""
    return Html(template.format(**{name: _safe(value) for name, value in values.items()}))


def _safe(value: object) -> str:
    return value if isinstance(value, Html) else escaping.escape(str(value))


def joined(*parts: Html) -> Html:
    return Html("".join(parts))


NOTHING = Html()


def field(name: str, label: str, kind: str = "text", **attributes: str) -> Html:
    """A field that has to be filled in, with its label."""
    more = joined(*(html(' {n}="{v}"', n=n, v=v) for n, v in attributes.items()))
    return html(
        '<p><label>{label} <input name="{name}" type="{kind}" required{more}></label></p>\n',
        label=label,
        name=name,
        kind=kind,
        more=more,
    )


def hidden(fields: Mapping[str, str]) -> Html:
    """What a form sends along without being asked."""
    return joined(
        *(html('<input type="hidden" name="{n}" value="{v}">', n=n, v=v) for n, v in fields.items())
    )


def form(action: str, *content: Html) -> Html:
    return html('<form method="post" action="{a}">{c}</form>\n', a=action, c=joined(*content))


def link(to: str, text: str) -> Html:
    return html('<a rel="noreferrer" href="{to}">{text}</a>', to=to, text=text)


def paragraph(text: str) -> Html:
    return html("<p>{text}</p>\n", text=text)


def problem(text: str) -> Html:
    """What went wrong, if anything."""
    return html('<p class="problem" role="alert">{text}</p>\n', text=text) if text else NOTHING


def page(title: str, *content: Html, status: int = 200, form_target: str = "") -> Response:
    """`form_target` is where (beside our own pages) a form of this page may lead: browsers hold
    `form-action` against the redirects that follow a form, too."""
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none';"
        f" frame-ancestors 'none'; form-action 'self' {form_target}"
    )
    title_html = html("<title>{title}</title>\n<h1>{title}</h1>\n", title=title)
    return Response(
        text=_HEAD + title_html + joined(*content),
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": policy.strip(),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )
