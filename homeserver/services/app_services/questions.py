"""What clients ask application services by way of this server.

application-service-api#querying, #third-party-networks
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from homeserver.errors import Forbidden, MatrixError, NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.app_services import AppService
from homeserver.requester import Requester
from homeserver.services.app_services.client import AppServiceClient, AppServiceFailed
from homeserver.services.app_services.registry import Registry


class Questions:
    """Asks whoever may know."""

    def __init__(self, registry: Registry, client: AppServiceClient) -> None:
        self._registry = registry
        self._client = client

    async def make_user(self, user_id: str) -> bool:
        """Whether an application service has made this unknown user of ours, now that we ask.

        Raises MatrixError (408) if the one whose it would be doesn't answer.
        """
        services = [s for s in self._registry.services if s.has_user(user_id)]
        return await self._make(services, user_id, self._client.has_user, AppService.owns_user)

    async def make_alias(self, alias: str) -> bool:
        """The same for an unknown alias of ours."""
        services = [s for s in self._registry.services if s.has_alias(alias)]
        return await self._make(services, alias, self._client.has_alias, AppService.owns_alias)

    async def _make(
        self,
        services: Iterable[AppService],
        name: str,
        ask: Callable[[AppService, str], Awaitable[bool]],
        owns: Callable[[AppService, str], bool],
    ) -> bool:
        silent = False
        for service in services:
            try:
                if service.url is not None and await ask(service, name):
                    return True
            except AppServiceFailed:
                silent = silent or owns(service, name)
        if silent:
            # "This should result in an HTTP status 408 "Request Timeout" on the client"
            raise MatrixError(f"The service that would know {name} does not answer", status=408)
        return False

    async def ping(
        self, requester: Requester, service_id: str, transaction_id: str | None
    ) -> JsonObject:
        """application-service-api#pinging. Raises Forbidden, MatrixError."""
        service = self._registry.find(service_id)
        if service is None or requester.app_service != service_id:
            raise Forbidden("You can only ping your own application service")
        if service.url is None:
            raise MatrixError("The application service has no URL", errcode="M_URL_NOT_SET")
        started = time.perf_counter()
        try:
            await self._client.ping(service, transaction_id)
        except TimeoutError:
            raise MatrixError(
                "The application service did not answer in time",
                errcode="M_CONNECTION_TIMEOUT",
                status=504,
            ) from None
        except AppServiceFailed as failed:
            raise _ping_error(failed) from None
        return {"duration_ms": int((time.perf_counter() - started) * 1000)}

    async def protocols(self) -> JsonObject:
        """All third-party protocols, with the instances of all who serve them."""
        names = sorted({p for service in self._registry.services for p in service.protocols})
        found = await asyncio.gather(*map(self._protocol, names))
        return {name: p for name, p in zip(names, found, strict=True) if p is not None}

    async def protocol(self, name: str) -> JsonObject:
        """Raises NotFound."""
        found = await self._protocol(name)
        if found is None:
            raise NotFound(f"Nobody here serves the protocol {name}")
        return found

    async def _protocol(self, name: str) -> JsonObject | None:
        found: JsonObject | None = None
        services = self._serving(name)
        for service, answer in await self._ask(services, f"protocol/{name}", {}):
            if not isinstance(answer, dict):
                continue
            instances = _instances(service, answer.get("instances"))
            if found is None:
                found = {**answer, "instances": instances}
            else:
                found["instances"] += instances
        return found

    async def look_up(self, kind: str, protocol: str | None, query: JsonObject) -> list[Any]:
        """Locations or users (`kind`) that fit the query, of one protocol or of all of them."""
        services = self._registry.services if protocol is None else self._serving(protocol)
        path = kind if protocol is None else f"{kind}/{protocol}"
        asked = [service for service in services if service.protocols]
        answers = await self._ask(asked, path, query)
        return [each for _, answer in answers if isinstance(answer, list) for each in answer]

    async def _ask(
        self, services: Sequence[AppService], path: str, query: JsonObject
    ) -> list[tuple[AppService, Any]]:
        """What each of them answers, asked all at once: one that is slow doesn't add up."""
        asking = (self._client.third_party(service, path, query) for service in services)
        return list(zip(services, await asyncio.gather(*asking), strict=True))

    def _serving(self, protocol: str) -> list[AppService]:
        return [service for service in self._registry.services if protocol in service.protocols]


def _instances(service: AppService, listed: Any) -> list[JsonObject]:
    """ "`instance_id`: A unique identifier across all instances." """
    if not isinstance(listed, list):
        return []
    return [
        {**instance, "instance_id": f"{service.id}|{instance.get('network_id', '')}"}
        for instance in listed
        if isinstance(instance, dict)
    ]


def _ping_error(failed: AppServiceFailed) -> MatrixError:
    if failed.status is None:
        return MatrixError(
            f"The application service can't be reached: {failed}",
            errcode="M_CONNECTION_FAILED",
            status=502,
        )
    error = MatrixError(
        f"The application service answered with status {failed.status}",
        errcode="M_BAD_STATUS",
        status=502,
        body=failed.body,
    )
    error.fields["status"] = failed.status
    return error
