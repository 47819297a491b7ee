"""Everything but the relay: administration, directories, the console, health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from lathe.gateway.admin.faults import KINDS
from lathe.gateway.admin.routes import routes as admin_routes
from lathe.gateway.batches.paths import batch_paths
from lathe.gateway.batches.routes import batch_routes
from lathe.gateway.console.gate import session_principal
from lathe.gateway.console.routes import routes as console_routes
from lathe.gateway.guarding.reporting import report_route
from lathe.gateway.identity.entrance import open_entrance
from lathe.gateway.identity.scim import routes as scim_routes
from lathe.gateway.metrics import metrics_route
from lathe.gateway.model_paths import model_paths
from lathe.gateway.model_routes import model_routes

if TYPE_CHECKING:
    from lathe.gateway.application import App, Gateway


def pages(gateway: Gateway) -> App:
    """Return the application that serves them; raise `ConfigError`."""

    async def health(request: Request) -> Response:
        records = gateway.relay.records
        return JSONResponse({"status": "ok" if records.healthy else "degraded"}, 200 if records.healthy else 503)

    async def front(request: Request) -> Response:
        return RedirectResponse("/console")

    services = gateway.services._replace(paths=model_paths() | batch_paths(), settle=gateway.relay.under_way.settle)
    entrance = open_entrance(services)
    services = services._replace(session_principal=session_principal(entrance))
    routes: list[BaseRoute] = [Route("/health", health), Route("/health/readiness", health), Route("/", front)]
    routes += [metrics_route(gateway), report_route(services)]
    routes += [*model_routes(gateway.relay), *batch_routes(gateway.relay, services, gateway.runner.poke)]
    routes += [*admin_routes(services), *scim_routes(services)]
    routes += console_routes(entrance)
    return Starlette(routes=routes, exception_handlers={HTTPException: _refused})


def _refused(request: Request, error: Exception) -> Response:
    """Tell of a path or a method that there is not, as everything else here tells of errors."""
    from lathe.gateway.application import WIRES

    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    if status == 404 and request.url.path in WIRES:
        status, headers = 405, {"allow": "POST"}
    code, message = {
        404: ("not_found", "There is nothing at this path."),
        405: ("method_not_allowed", f"This path does not take {request.method}."),
    }.get(status, ("invalid", error.detail))
    said = {"type": KINDS.get(status, "invalid_request_error"), "code": code, "message": message, "hint": ""}
    return JSONResponse({"error": said}, status, headers)
