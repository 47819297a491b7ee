"""The first page."""

from __future__ import annotations

from starlette.responses import Response

from lathe.gateway.console.gate import Visit


async def page(visit: Visit) -> Response:
    """Show how things stand."""
    return visit.page("overview.html")
