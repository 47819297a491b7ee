"""What goes wrong in administration: an HTTP status, a stable code, a sentence, a next step."""

from __future__ import annotations

from lathe.protocol.errors import LatheError

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    503: "unavailable_error",
}
"""The `type` of an error by its status."""


class AdminError(LatheError):
    """Something that was asked for is not done; `status` is HTTP's."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


def not_found(what: str) -> AdminError:
    """Return the error for what is not there, or is another tenant's: nobody is told which."""
    return AdminError(404, "not_found", f"There is no such {what} that you can see.", "Check its id.")


def conflict(code: str, message: str, hint: str = "") -> AdminError:
    """Return the error for what does not fit the state of things."""
    return AdminError(409, code, message, hint)


def invalid(message: str, hint: str = "", code: str = "invalid") -> AdminError:
    """Return the error for a request that makes no sense."""
    return AdminError(400, code, message, hint)


def forbidden(message: str, hint: str = "", code: str = "role_missing") -> AdminError:
    """Return the error for what the caller may not do to anything."""
    return AdminError(403, code, message, hint)


def stale() -> AdminError:
    """Return the error for a replica that has lost its database."""
    lost = "The gateway has lost its database, and can't know who may do what."
    return AdminError(503, "directory_stale", lost, "Try again in a moment.")
