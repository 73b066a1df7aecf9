"""Link previews, of a hostile web server."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from tests.conftest import StartServer
from tests.support.client import Client, Refused
from tests.support.media import download, picture, stored_files
from tests.support.server import RunningServer

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]
PREVIEW = "/_matrix/client/v1/media/preview_url"
HTML = {"Content-Type": "text/html"}


class Site:
    """A web server whose pages the test sets."""

    def __init__(self) -> None:
        self.pages: dict[str, Serve] = {}
        self.asked: list[str] = []
        self.url = ""

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404)
        return await page(request)  # type: ignore[arg-type]

    def page(self, path: str, body: bytes | str, **headers: str) -> str:
        """Its URL."""
        data = body.encode() if isinstance(body, str) else body
        said = {"Content-Type": "text/html; charset=utf-8"}
        said.update({name.replace("_", "-"): value for name, value in headers.items()})

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(body=data, headers=said)

        self.pages[path] = answer
        return self.url + path

    def redirect(self, path: str, to: str) -> str:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=302, headers={"Location": to})

        self.pages[path] = answer
        return self.url + path


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    runner = web.ServerRunner(web.Server(site.serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


async def preview(client: Client, url: str) -> dict[str, object]:
    answer: dict[str, object] = await client.get(PREVIEW, url=url)
    return answer


async def refusal(client: Client, url: str) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        await preview(client, url)
    return refused.value.status, refused.value.errcode


async def test_a_page_with_a_picture(server: RunningServer, site: Site) -> None:
    alice = await server.user()
    site.page("/pic", picture(60, 40), Content_Type="application/x-lie")
    url = site.page(
        "/",
        '<meta property="og:title" content="Title"><meta property="og:image" content="/pic">',
    )
    answer = await preview(alice, url)
    mxc = str(answer.pop("og:image"))
    assert answer == {
        "og:title": "Title",
        "og:image:type": "image/png",
        "og:image:width": 60,
        "og:image:height": 40,
        "matrix:image:size": len(picture(60, 40)),
    }
    assert (await download(alice, mxc)).body == picture(60, 40)


async def test_a_page_is_fetched_once(server: RunningServer, site: Site) -> None:
    alice, bob = await server.user(), await server.user()
    url = site.page("/", "<title>Once</title>")
    answers = await asyncio.gather(
        *(preview(client, url + end) for client in (alice, bob) for end in ("", "#there", ""))
    )
    assert answers == [{"og:title": "Once"}] * 6
    await server.restart()
    assert await preview(server.moved(alice), url) == {"og:title": "Once"}
    assert site.asked == ["/"]


async def test_a_link_to_a_picture(server: RunningServer, site: Site) -> None:
    alice = await server.user()
    answer = await preview(alice, site.page("/p", picture(9, 9), Content_Type="image/png"))
    assert answer["og:image:width"] == 9
    assert str(answer["og:image"]).startswith("mxc://hs.test/")


async def test_what_has_nothing_to_show(server: RunningServer, site: Site) -> None:
    alice = await server.user()
    assert await preview(alice, site.page("/a", b"%PDF", Content_Type="application/pdf")) == {}
    assert await preview(alice, site.page("/b", b"")) == {}
    assert await preview(alice, site.page("/c", b"\xff\0\xfe<")) is not None


async def test_pictures_that_are_none_are_left_out(server: RunningServer, site: Site) -> None:
    alice = await server.user()
    site.page("/svg", "<svg xmlns='http://www.w3.org/2000/svg'/>", Content_Type="image/svg+xml")
    site.page("/html", "<script>alert(1)</script>", Content_Type="image/png")
    for image in ("/svg", "/html", "/404", "data:image/png;base64,AAAA", "http://[::1"):
        url = site.page(
            f"/page{len(site.asked)}",
            f'<title>T</title><meta property="og:image" content="{image}">',
        )
        assert await preview(alice, url) == {"og:title": "T"}
    assert stored_files(server) == []


async def test_oembed_is_asked(server: RunningServer, site: Site) -> None:
    alice = await server.user()
    site.page("/oembed", '{"provider_name": "Prov"}', Content_Type="application/json")
    link = '<link type="application/json+oembed" href="/oembed">'
    answer = await preview(alice, site.page("/", f"<title>T</title>{link}"))
    assert answer == {"og:title": "T", "og:site_name": "Prov"}


async def test_only_users_get_previews(server: RunningServer, site: Site) -> None:
    assert await refusal(server.anonymous(), site.url) == (401, "M_MISSING_TOKEN")
    guest = server.anonymous()
    guest.token = (await guest.post("/register", {}, kind="guest"))["access_token"]
    assert await refusal(guest, site.url) == (403, "M_GUEST_ACCESS_FORBIDDEN")
    assert site.asked == []


async def test_previews_can_be_switched_off(start_server: StartServer, site: Site) -> None:
    server = await start_server(previews={"enabled": False})
    assert await refusal(await server.user(), site.url) == (404, "M_UNRECOGNIZED")


@pytest.mark.parametrize(
    "url", ["", "example.org", "ftp://a/", "file:///etc/passwd", "http://", "x" * 5000, "http://[:"]
)
async def test_what_is_no_address(server: RunningServer, url: str) -> None:
    assert (await refusal(await server.user(), url))[0] == 400


async def test_addresses_in_our_network_are_not_fetched(
    start_server: StartServer, site: Site
) -> None:
    server = await start_server(outgoing={"allowed_private_ranges": []})
    alice = await server.user()
    port = site.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):
        assert await refusal(alice, f"http://{host}:{port}/") == (502, "M_UNKNOWN")
    assert await refusal(alice, "http://169.254.169.254/latest/meta-data/") == (502, "M_UNKNOWN")
    assert site.asked == []


async def test_redirects_are_followed_but_not_into_our_network(
    start_server: StartServer, site: Site
) -> None:
    server = await start_server(outgoing={"allowed_private_ranges": ["127.0.0.1/32"]})
    alice = await server.user()
    port = site.url.rpartition(":")[2]
    site.page("/end", "<title>End</title>")
    assert await preview(alice, site.redirect("/1", "/end")) == {"og:title": "End"}
    for index, to in enumerate(
        [
            f"http://127.0.0.2:{port}/end",
            "file:///etc/passwd",
            "gopher://127.0.0.1/",
            "http://169.254.169.254/",
            "",
            "http://[::1",
            "/loop",
        ]
    ):
        site.redirect("/loop", "/loop")
        url = site.redirect(f"/r{index}", to)
        assert await refusal(alice, url) == (502, "M_UNKNOWN"), to
    image = site.redirect("/image", f"http://127.0.0.2:{port}/end")
    page = site.page("/page", f'<title>T</title><meta property="og:image" content="{image}">')
    assert await preview(alice, page) == {"og:title": "T"}


async def test_the_lists_of_hosts_hold_for_redirects_too(
    start_server: StartServer, site: Site
) -> None:
    server = await start_server(previews={"denied_hosts": ["localhost"]})
    alice = await server.user()
    elsewhere = site.url.replace("127.0.0.1", "localhost") + "/end"
    site.page("/end", "<title>End</title>")
    assert await refusal(alice, elsewhere) == (403, "M_FORBIDDEN")
    assert await refusal(alice, site.redirect("/r", elsewhere)) == (502, "M_UNKNOWN")
    assert site.asked == ["/r"]
    server = await start_server(server_name="other.test", previews={"allowed_hosts": ["*.org"]})
    assert await refusal(await server.user(), site.url) == (403, "M_FORBIDDEN")


async def test_a_large_page_is_read_in_part(start_server: StartServer, site: Site) -> None:
    server = await start_server(previews={"max_page_size": 10_000})
    alice = await server.user()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=HTML)
        await response.prepare(request)
        await response.write(b"<title>Endless</title><body>")
        while True:
            await response.write(b"words " * 1000)
            await asyncio.sleep(0)

    site.pages["/"] = endless
    async with asyncio.timeout(10):
        assert (await preview(alice, site.url + "/"))["og:title"] == "Endless"


async def test_a_compressed_bomb_stays_small(start_server: StartServer, site: Site) -> None:
    server = await start_server(previews={"max_page_size": 100_000})
    alice = await server.user()
    bomb = gzip.compress(b"<title>Bomb</title>" + b" " * 50_000_000)
    url = site.page("/", bomb, Content_Encoding="gzip")
    assert await preview(alice, url) == {"og:title": "Bomb"}
    assert (await refusal(alice, site.page("/b", b"no gzip", Content_Encoding="gzip")))[0] == 502
    assert (await refusal(alice, site.page("/c", b"x", Content_Encoding="br")))[0] == 502


async def test_a_slow_page_is_given_up_and_remembered(
    start_server: StartServer, site: Site
) -> None:
    server = await start_server(previews={"seconds": 0.5})
    alice = await server.user()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=HTML)
        await response.prepare(request)
        for _ in range(20):
            await response.write(b" ")
            await asyncio.sleep(0.1)
        return response

    site.pages["/"] = slow
    async with asyncio.timeout(5):
        for _ in range(3):
            assert await refusal(alice, site.url + "/") == (502, "M_UNKNOWN")
    assert site.asked == ["/"]


async def test_a_picture_over_the_limit_is_left_out(start_server: StartServer, site: Site) -> None:
    server = await start_server(previews={"max_image_size": 100})
    alice = await server.user()
    site.page("/pic", picture(600, 400))
    page = site.page("/", '<title>T</title><meta property="og:image" content="/pic">')
    assert await preview(alice, page) == {"og:title": "T"}
