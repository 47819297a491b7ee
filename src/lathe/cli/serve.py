"""`lathe serve`: the gateway."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lathe.config.paths import lathe_home
from lathe.protocol.errors import ConfigError

if TYPE_CHECKING:
    from lathe.gateway.application import Gateway
    from lathe.gateway.settings import GatewaySettings

_BACKLOG = 2048


def main(argv: list[str]) -> int:
    """Run `lathe serve` until it is told to stop, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="lathe serve",
        description="Put models behind one endpoint: Responses, Chat Completions and Messages, with keys, trusted "
        "access, limits and receipts. Without a configuration it serves the embedded engine `mend`.",
    )
    parser.add_argument("--config", metavar="FILE", help="gateway.toml (LATHE_GATEWAY_CONFIG)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to listen; 127.0.0.1:8484 if left out")
    parser.add_argument("--database", metavar="URL", help="sqlite:///PATH or postgresql://… (LATHE_GATEWAY_DATABASE)")
    parser.add_argument("--tls-cert", metavar="FILE", help="a certificate chain in PEM, to serve https")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key")
    parser.add_argument("--invite", metavar="EMAIL", help="print a link by which this person enrols a passkey, and end")
    parser.add_argument(
        "--safeguards",
        metavar="FILE",
        action="append",
        default=[],
        help="hold a model to what its card asks for (lathe card build); once for each model",
    )
    parser.add_argument("--check", action="store_true", help="only say whether the configuration is right")
    options = parser.parse_args(argv)
    try:
        import uvicorn  # noqa: F401 - to say in one sentence what is missing

        from lathe.gateway.application import config_path
        from lathe.gateway.settings import load_settings
    except ImportError as error:
        raise ConfigError(
            f"The gateway needs more than is installed ({error.name}).", hint="pip install 'lathe[gateway]'"
        ) from None
    import msgspec

    home = lathe_home(os.environ)
    path, required = config_path(home, os.environ)
    settings = load_settings(
        Path(options.config) if options.config else path, required=required or bool(options.config)
    )
    given = {"listen": options.listen, "database": options.database}
    settings = msgspec.structs.replace(settings, **{key: value for key, value in given.items() if value})
    settings = msgspec.structs.replace(settings, safeguards=(*settings.safeguards, *options.safeguards))
    if options.check:
        from lathe.gateway.upstreams import Upstreams

        upstreams = Upstreams(settings, os.environ)
        if settings.guard.enabled:
            from lathe.gateway.guarding.guard import check_guard

            check_guard(settings.guard, upstreams)
        served = upstreams.models
        held = _held_to(settings)
        print(f"The configuration is right; models: {', '.join(served) or 'none'}{held}.")
        return 0
    if options.invite:
        print(asyncio.run(_invite(settings, home, options.invite)))
        return 0
    return _serve(settings, home, options.tls_cert, options.tls_key)


def _held_to(settings: GatewaySettings) -> str:
    """Return which models are held to safeguards, as the end of a sentence; raise `ConfigError`."""
    from lathe.gateway.directory import now_ms
    from lathe.gateway.safeguards import safeguards_of

    found = safeguards_of(settings, now=now_ms())
    return f"; held to safeguards: {', '.join(found)}" if found else ""


async def _invite(settings: GatewaySettings, home: Path, email: str) -> str:
    """Return a link for a person, made with the database beside the gateways that run on it."""
    from lathe.gateway.directory import now_ms
    from lathe.gateway.identity.invitations import invite_by_host
    from lathe.gateway.identity.site import console_site
    from lathe.store.gateway.database import Database, default_url

    database = Database(settings.database or default_url(home))
    try:
        await database.migrate()
        return await invite_by_host(database, console_site(settings), email, now_ms())
    finally:
        await database.aclose()


def _serve(settings: GatewaySettings, home: Path, certificate: str | None, key: str | None) -> int:
    import uvloop

    return uvloop.run(_run(settings, home, certificate, key))


async def _run(settings: GatewaySettings, home: Path, certificate: str | None, key: str | None) -> int:
    import uvicorn

    from lathe.gateway.application import Gateway
    from lathe.gateway.settings import listen_address

    host, port = listen_address(settings)
    listening = _bind(host, port)
    port = listening.getsockname()[1]
    scheme = "https" if certificate else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    gateway = Gateway(settings, home, os.environ)
    try:
        await gateway.open(settings.public_url or address)
    except BaseException:
        listening.close()
        raise
    server = uvicorn.Server(
        uvicorn.Config(
            gateway,
            http="httptools",
            ws="websockets-sansio",
            loop="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=20,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
    )
    _say(gateway, address, host)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    # while it is already served: what makes the link takes longer to import than all the rest to start
    inviting = asyncio.create_task(_say_invitation(gateway, settings, port)) if gateway.first_key else None
    try:
        # Its own handlers would raise the signal again at the end, and end in 130 what was asked to end.
        await server._serve([listening])
    finally:
        if inviting is not None:
            await asyncio.wait((inviting,), timeout=5)
        await gateway.aclose()
    return 0


async def _say_invitation(gateway: Gateway, settings: GatewaySettings, port: int) -> None:
    from lathe.gateway.identity.invitations import invite_operator
    from lathe.gateway.identity.site import console_site

    services = gateway.services
    link = await invite_operator(services.database, console_site(settings, port), services.clock())
    if link is not None:
        sys.stderr.write(
            f"lathe: to sign in to the console, open this link within three days and make a passkey:\n{link}\n"
        )
        sys.stderr.flush()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.setblocking(False)
        listening.listen(_BACKLOG)  # whoever reads that it listens may ask at once
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} can't be listened on: {error.strerror or error}.", hint="Name another with --listen."
        ) from None
    return listening


def _say(gateway: object, address: str, host: str) -> None:
    from lathe.gateway.application import Gateway
    from lathe.models.endpoint import is_loopback

    assert isinstance(gateway, Gateway)
    models = ", ".join(gateway.relay.upstreams.models) or "none"
    sys.stderr.write(f"lathe: the gateway listens on {address}; models: {models}\n")
    for name, model in gateway.services.directory.policy.models.items():
        if model.safeguards is not None:
            sys.stderr.write(f"lathe: {name} is held to the safeguards {model.safeguards.digest[:12]}\n")
    if gateway.first_key is not None:
        sys.stderr.write("lathe: this is the first start. The administrator's key, shown only now:\n")
        sys.stderr.flush()
        print(gateway.first_key, flush=True)
    if not is_loopback(host) and address.startswith("http:"):
        sys.stderr.write("lathe: keys go over this address unencrypted; use --tls-cert, or a proxy that ends TLS.\n")
    sys.stderr.flush()
