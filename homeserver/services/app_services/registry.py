"""The registered application services, by their files; read again without a restart."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog

from homeserver.protocol.app_services import AppService, BadRegistration, parse_registration

log = structlog.get_logger()


class RegistrationError(Exception):
    """A registration file can't be used; the text names the file and says why."""


class Registry:
    """All application services."""

    def __init__(self, paths: Sequence[Path], server_name: str) -> None:
        """Raises RegistrationError."""
        self._paths = paths
        self._server_name = server_name
        self._by_token: dict[str, AppService] = {}
        self.services: tuple[AppService, ...] = ()
        self.on_change: list[Callable[[], None]] = []
        self._set(self._read())

    def reload(self) -> bool:
        """Read the files again; if one of them can't be used, all stays as it was (False)."""
        try:
            services = self._read()
        except RegistrationError as error:
            log.error("application services not read again", problem=str(error))
            return False
        self._set(services)
        for tell in self.on_change:
            tell()
        log.info("application services", ids=[service.id for service in services])
        return True

    def find(self, service_id: str) -> AppService | None:
        return next((s for s in self.services if s.id == service_id), None)

    def by_token(self, token: str) -> AppService | None:
        """Whose `as_token` this is. Compared in constant time."""
        service = self._by_token.get(token)
        if service is None or not hmac.compare_digest(service.as_token.encode(), token.encode()):
            return None
        return service

    def owner_of_user(self, user_id: str) -> AppService | None:
        """The application service that claims a user id for itself alone."""
        return next((s for s in self.services if s.owns_user(user_id)), None)

    def id_of_alias_owner(self, alias: str) -> str | None:
        """The application service that claims an alias for itself alone."""
        return next((s.id for s in self.services if s.owns_alias(alias)), None)

    def _set(self, services: Sequence[AppService]) -> None:
        # Who is unchanged stays the same object, with what it knows of users.
        old = {service.id: service for service in self.services}
        self.services = tuple(
            old[service.id] if old.get(service.id) == service else service for service in services
        )
        self._by_token = {service.as_token: service for service in self.services}

    def _read(self) -> list[AppService]:
        services = [self._read_file(path) for path in self._paths]
        _require_unique("id", (service.id for service in services))
        _require_unique("as_token", (service.as_token for service in services))
        return services

    def _read_file(self, path: Path) -> AppService:
        import yaml  # only who has registrations pays for it

        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RegistrationError(f"{path}: can't be read: {error}") from error
        try:
            return parse_registration(values, self._server_name)
        except BadRegistration as error:
            raise RegistrationError(f"{path}: {error}") from error


def _require_unique(name: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise RegistrationError(f"two application services have the same `{name}`")
        seen.add(value)
