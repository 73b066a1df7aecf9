"""The page on which people log in whose client knows none of our ways to: #login-fallback."""

from __future__ import annotations

from aiohttp.web import Response

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints

endpoints = Endpoints(prefix="/_matrix/static/client", versions=())

# "Non-credential parameters valid for the /login endpoint can be provided as query string
# parameters here. These are to be forwarded to the login endpoint during the login process."
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Log in</title>
<h1>Log in</h1>
<form id="login">
<p><label>User name <input name="user" autocomplete="username" required></label></p>
<p><label>Password
<input name="password" type="password" autocomplete="current-password" required></label></p>
<p><button>Log in</button></p>
<p id="problem" role="alert"></p>
</form>
<script>
const form = document.getElementById("login");
const problem = document.getElementById("problem");
form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams(location.search);
    const body = {
        type: "m.login.password",
        identifier: {type: "m.id.user", user: form.user.value},
        password: form.password.value,
    };
    for (const name of ["device_id", "initial_device_display_name"]) {
        if (query.has(name)) body[name] = query.get(name);
    }
    if (query.get("refresh_token") === "true") body.refresh_token = true;
    const response = await fetch("/_matrix/client/v3/login", {
        method: "POST",
        headers: {"Content-Type": "application/json"},
        body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) {
        problem.textContent = answer.error || "This did not work";
        return;
    }
    form.replaceWith("You are logged in. You may close this window.");
    if (window.matrixLogin && window.matrixLogin.onLogin) {
        window.matrixLogin.onLogin(answer);
    }
});
</script>
"""


@endpoints.get("/login/", also=("/login",), auth=Auth.NONE)
async def login_page(call: Call) -> Response:
    """client-server-api#login-fallback"""
    policy = "default-src 'none'; script-src 'unsafe-inline'; connect-src 'self'"
    return Response(
        text=_PAGE, content_type="text/html", headers={"Content-Security-Policy": policy}
    )
