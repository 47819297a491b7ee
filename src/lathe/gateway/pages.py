"""Everything but the relay: administration, the console, sign-in, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from lathe.gateway.admin.routes import routes as admin_routes
from lathe.gateway.model_routes import model_routes

if TYPE_CHECKING:
    from lathe.gateway.application import App, Gateway


def pages(gateway: Gateway) -> App:
    """Return the application that serves them."""

    async def health(request: Request) -> Response:
        records = gateway.relay.records
        return JSONResponse({"status": "ok" if records.healthy else "degraded"}, 200 if records.healthy else 503)

    routes: list[BaseRoute] = [Route("/health", health), Route("/health/readiness", health)]
    routes += [*model_routes(gateway.relay), *admin_routes(gateway.services)]
    return Starlette(routes=routes)
