"""The command line: run the server, make accounts, keys and configs.

Rules of this file: a command imports what it needs when it runs, so that `--help` is quick and the
server carries nothing that it doesn't use; what goes wrong is told in one sentence, exit status 1.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from homeserver.config import Config

cli = typer.Typer(
    help="A Matrix homeserver. `homeserver run` is all you need to try it on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="YAML or JSON. Without it the server is in local mode: for this machine only.",
    ),
]
DataOption = Annotated[
    Path,
    typer.Option("--data-dir", metavar="DIR", help="In local mode: where everything is kept."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write a new file instead of printing."),
]


def main() -> None:
    """The entry point of `homeserver`."""
    cli(prog_name="homeserver")


def fail(problem: object) -> NoReturn:
    """Ends the command with a sentence."""
    typer.echo(f"homeserver: {problem}", err=True)
    raise SystemExit(1)


@cli.command()
def run(config: ConfigOption = None, data_dir: DataOption = Path("data")) -> None:
    """Start the server, in the foreground, until Ctrl-C or SIGTERM.

    Without --config it is in local mode: server name `localhost`, on http://127.0.0.1:8008 only,
    with a PostgreSQL of its own, and everybody on this machine can make an account.
    With --config it logs to standard error what it does; see `homeserver generate-config`.
    """
    _import_frugally()
    from homeserver.serve import serve

    try:
        serve(read_config(config, data_dir), is_local=config is None)
    except (KeyboardInterrupt, BrokenPipeError):
        raise SystemExit(130) from None


def _import_frugally() -> None:
    """Keeps from libraries what they do at import and we don't need: 0.15 s and 8 MB.

    structlog takes rich, which typer brings, for colourful tracebacks; aiohttp reads all
    certificate authorities of the system, but our requests bring their own trust.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None: can't be imported
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(SSL_CERT_FILE=os.devnull, SSL_CERT_DIR=os.devnull)
    import aiohttp  # noqa: F401

    for name, value in before.items():
        del os.environ[name]
        if value is not None:
            os.environ[name] = value


def read_config(config: Path | None, data_dir: Path) -> Config:
    """The config of FILE, or of local mode."""
    from homeserver.config import local_config
    from homeserver.config_file import ConfigError, load_config

    try:
        return local_config(data_dir) if config is None else load_config(config)
    except ConfigError as error:
        fail(error)


@cli.command()
def register(
    username: Annotated[str, typer.Argument(help="The localpart: alice for @alice:example.org.")],
    config: ConfigOption = None,
    data_dir: DataOption = Path("data"),
    password: Annotated[
        str | None, typer.Option(help="Asked for if it isn't given (better: others can see this).")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Make them a server admin.")] = False,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask a running server there, by its shared secret."),
    ] = None,
    shared_secret: Annotated[
        str | None,
        typer.Option(
            envvar="HOMESERVER_REGISTRATION__SHARED_SECRET",
            help="registration.shared_secret of that server; else the config's.",
        ),
    ] = None,
) -> None:
    """Make an account, whether the server runs or not.

    With --url a running server is asked, which needs its registration.shared_secret. Without, the
    account is written straight into the database of --config (or of local mode).
    """
    from homeserver import offline
    from homeserver import register as accounts

    password = password or typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    account = accounts.NewAccount(username, password, admin)
    try:
        if url is None:
            user_id = accounts.into_database(read_config(config, data_dir), account)
        else:
            if shared_secret is None:
                shared_secret = read_config(config, data_dir).registration.shared_secret
            user_id = accounts.at_server(url, shared_secret or "", account)
    except offline.Refused as error:
        fail(error)
    typer.echo(f"Made {user_id}" + (", a server admin" if admin else ""))


@cli.command()
def after_restore(config: ConfigOption = None, data_dir: DataOption = Path("data")) -> None:
    """Make a database safe that was restored from a backup: once, before the server starts.

    It clears the one-time keys of all devices, which may have been given out after the backup (a
    key given out twice makes messages unreadable; clients upload new ones by themselves), and
    skips the sync tokens that clients may have got after it.
    """
    from homeserver import offline

    try:
        cleared = offline.after_restore(read_config(config, data_dir))
    except offline.Refused as error:
        fail(error)
    typer.echo(f"Cleared {cleared} one-time keys; sync tokens go on far above the backup's")


@cli.command()
def hash_password(
    password: Annotated[
        str | None, typer.Option(help="Asked for if it isn't given, or read from a pipe.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=4, max=20, help="password.bcrypt_rounds")] = 12,
) -> None:
    """Print a password's bcrypt hash, as the database keeps it."""
    from homeserver.passwords import hash_password as bcrypt_hash

    if password is None:
        password = (
            typer.prompt("Password", hide_input=True, confirmation_prompt=True)
            if sys.stdin.isatty()
            else sys.stdin.readline().rstrip("\n")
        )
    typer.echo(bcrypt_hash(password, rounds))


@cli.command()
def generate_config(
    server_name: Annotated[
        str, typer.Option(help="The name in user ids; usually your domain.")
    ] = "example.org",
    output: OutputOption = None,
) -> None:
    """Print a config file with every option, its default and its explanation."""
    from homeserver.config_file import example_config

    _put_out(example_config(server_name), output)


@cli.command()
def generate_signing_key(output: OutputOption = None) -> None:
    """Print a new signing key (the server makes its own when it starts for the first time)."""
    from homeserver.signing_key import new_signing_key

    _put_out(new_signing_key().strip() + "\n", output)


@cli.command()
def routes() -> None:
    """Print every route: method, path, who may call it, rate limit, section of the spec."""
    from homeserver.http.endpoint import route_table
    from homeserver.http.routes import ROUTES

    rows = [
        (method, path, auth, limit, section if path == paths[-1] else "")
        for method, paths, auth, limit, section in route_table(ROUTES)
        for path in paths
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in sorted(rows, key=lambda row: (row[1], row[0])):
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _put_out(text: str, output: Path | None) -> None:
    """To standard output, or to a new file that only its owner can read."""
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        fail(f"{output}: {error.strerror}")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
