"""`lathe access`: usage, receipts and the audit; receipts and the audit are verified without a gateway."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lathe.cli.access_client import segment
from lathe.cli.access_output import print_json, print_table
from lathe.gateway.refusals import moment
from lathe.protocol.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from lathe.cli.access import Call, Words
    from lathe.gateway.audit import Record, SignedCheckpoint, Verified
    from lathe.gateway.signing import KeyRing

_KEYS = "/.well-known/jwks.json"
_SHOWN = 20


def add_commands(words: Words) -> None:
    """Add the commands of this module."""
    command = words.add("usage", "Say what was used in a month or on a day", usage)
    command.add_argument("--by", choices=["project", "key", "organisation"], default="project")
    command.add_argument("--period", default="", metavar="YYYY-MM[-DD]", help="this month if left out")
    command = words.add("receipt", "Fetch the receipt of a request", receipt)
    command.add_argument("id", help="req_…, as the answer's x-request-id says")
    command.add_argument("-o", "--output", metavar="FILE", help="write it to FILE")
    command = words.add("verify", "Verify a receipt, with nothing but the public key", verify, keyless=True)
    command.add_argument("receipt", metavar="FILE", help="the receipt, or - for standard input")
    _public_keys(command)
    command = words.add("public-keys", "Fetch the public keys of a gateway", public_keys, keyless=True)
    command.add_argument("-o", "--output", metavar="FILE", help="write them to FILE")
    audit = words.group("audit", "The audit: listed, exported, verified")
    command = audit.add("list", "List records, the newest first", audit_list)
    command.add_argument("--action", default="", help="an action or its beginning: key., entitlement.granted")
    command.add_argument("--actor", default="", help="user:ID or key:ID")
    command.add_argument("--subject", default="", help="what it was done to: key:ID, project:ID, …")
    command.add_argument("--limit", type=int, default=50)
    command = audit.add("export", "Export the whole audit", audit_export)
    command.add_argument("-o", "--output", metavar="FILE", required=True)
    command = audit.add("verify", "Find any change, deletion or reordering", audit_verify, keyless=True)
    command.add_argument("export", metavar="FILE", nargs="?", help="an export")
    command.add_argument("--database", metavar="URL", help="the database itself (LATHE_GATEWAY_DATABASE)")
    command.add_argument("--anchor", default="", metavar="HASH", help="a checkpoint that was kept elsewhere")
    _public_keys(command)


def _public_keys(command: Any) -> None:
    command.add_argument(
        "--key",
        dest="public_key",
        metavar="FILE",
        help="the public keys, as lathe access public-keys writes them, or one",
    )


def usage(call: Call) -> None:
    """Print what was used."""
    query = {"by": call.options.by, "period": call.options.period}
    found = call.gateway.ask("GET", "/admin/v1/usage", query=query)
    if call.options.json:
        print_json(found)
        return
    print_table(found["data"], ("name", "scope", "requests", "tokens", "cost:usd"))
    print(f"{found['period']}: ${found['cost'] / 1e6:,.4f}")


def receipt(call: Call) -> None:
    """Fetch a receipt."""
    _write(call, call.gateway.fetch("GET", f"/v1/receipts/{segment(call.options.id)}"))


def public_keys(call: Call) -> None:
    """Fetch the public keys."""
    _write(call, call.gateway.fetch("GET", _KEYS))


def verify(call: Call) -> None:
    """Verify a receipt."""
    from lathe.gateway.receipts import verify_receipt

    document = _read(call.options.receipt)
    found = verify_receipt(document, _ring(call))
    if call.options.json:
        from lathe.protocol.codec import decode_json

        print_json({"genuine": True, "receipt": decode_json(document)["receipt"]})
        return
    served = f"{found.served or found.requested} was served" if found.outcome == "serve" else f"refused ({found.code})"
    print(f"The receipt {found.id} is genuine.")
    print(f"On {moment(found.at)} the project {found.project} asked for {found.requested}: {served}.")
    if found.substitution:
        print(f"Another model than was asked for, because of {found.substitution}.")
    print(f"Decided by {found.clause or 'no rule'} of the policy {found.policy}; tier {found.tier}.")


def audit_list(call: Call) -> None:
    """List records of the audit."""
    options = call.options
    query = {name: getattr(options, name) for name in ("action", "actor", "subject", "limit")}
    found = call.gateway.ask("GET", "/admin/v1/audit", query=query)["data"]
    if options.json:
        print_json(found)
    else:
        print_table(found, ("at:time", "actor", "action", "subject", "body", "chain", "seq"))


def audit_export(call: Call) -> None:
    """Export the audit."""
    target = Path(call.options.output)
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as file:
            call.gateway.save("/admin/v1/audit/export", file)
        part.replace(target)
    except OSError as error:
        raise ConfigError(f"{target} can't be written: {error.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)


def audit_verify(call: Call) -> int:
    """Verify an export or a database; return 1 where anything is not as it was written."""
    options = call.options
    if options.export and options.database:
        raise UsageError("There are an export and a database to verify.", hint="Give one of them.")
    database = options.database or os.environ.get("LATHE_GATEWAY_DATABASE")
    if options.export:
        found = _verified_file(Path(options.export), _ring(call, required=False), options.anchor)
    elif database:
        found = _verified_database(database, _ring(call, required=False), options.anchor)
    else:
        raise UsageError("There is nothing to verify.", hint="Give an export, or --database URL.")
    if options.json:
        print_json({**found._asdict(), "faults": [one._asdict() for one in found.faults]})
    else:
        _print_verified(found)
    return 1 if found.faulty else 0


def _print_verified(found: Verified) -> None:
    for one in found.faults[:_SHOWN]:
        where = f"{one.chain} {one.seq}" if one.chain else f"checkpoint {one.seq}"
        print(f"  {where}: {one.message}")
    if found.faulty > _SHOWN:
        print(f"  and {found.faulty - _SHOWN} more")
    read = f"{found.records} records in {found.chains} chains, {found.checkpoints} checkpoints"
    print(f"{read}: {'nothing is wrong' if not found.faulty else f'{found.faulty} faults'}.")
    if found.checkpoints:
        print(f"{found.unsigned} records come after the last checkpoint, of {moment(found.until)}: {found.head}")
    else:
        print("No checkpoint has been signed yet: whether records were hashed anew does not show.")


def _verified_file(path: Path, ring: KeyRing | None, anchor: str) -> Verified:
    from lathe.gateway.audit import verify_log

    own = ring or _export_keys(path)
    return verify_log(_records(path), _checkpoints(path), own, anchor=anchor)


def _verified_database(url: str, ring: KeyRing | None, anchor: str) -> Verified:
    """Verify what is in a database, by way of an export that is gone afterwards."""
    import asyncio
    import tempfile

    from lathe.gateway.admin.records import audit_lines
    from lathe.store.gateway.database import Database

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit"

        async def export() -> None:
            database = Database(url)
            try:
                with path.open("wb") as file:
                    async for line in audit_lines(database):
                        file.write(line)
            finally:
                await database.aclose()

        asyncio.run(export())
        return _verified_file(path, ring, anchor)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    from lathe.protocol.codec import DecodeError, decode_json

    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    found = decode_json(line)
                except (DecodeError, UnicodeDecodeError):
                    found = None
                if not isinstance(found, dict):
                    raise UsageError(f"Line {number} of {path} is none of an export.")
                yield found
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None


def _records(path: Path) -> Iterator[Record]:
    from lathe.gateway.audit import Record

    for line in _lines(path):
        if "record" in line:
            with _whole(path):
                chain, seq, body, hash = line["record"]
                yield Record(str(chain), int(seq), str(body), str(hash))


def _checkpoints(path: Path) -> Iterator[SignedCheckpoint]:
    from lathe.gateway.audit import SignedCheckpoint

    for line in _lines(path):
        if "checkpoint" in line:
            with _whole(path):
                seq, body, signature, signer = line["checkpoint"]
                yield SignedCheckpoint(int(seq), str(body), str(signature), str(signer))


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError):
        raise UsageError(f"A line of {path} is none of an export.") from None


def _export_keys(path: Path) -> KeyRing:
    """Return the keys that an export brings with it, and say that they prove nothing against who made it."""
    from lathe.gateway.signing import KeyRing
    from lathe.protocol.codec import encode

    first = next(_lines(path), {})
    if first.get("type") != "lathe.audit.v1":
        raise UsageError(f"{path} is no export of an audit.", hint="lathe access audit export -o FILE makes one.")
    sys.stderr.write("lathe: verified with the keys that it brings along; --key FILE proves who signed it.\n")
    return KeyRing.from_json(encode(first.get("keys")))


def _ring(call: Call, *, required: bool = True) -> Any:
    """Return the public keys of --key, or of the gateway where --url says which one."""
    from lathe.gateway.signing import KeyRing

    options = call.options
    if options.public_key:
        text = _read(options.public_key)
        return (
            KeyRing.from_json(text)
            if text.lstrip().startswith(b"{")
            else KeyRing([text.decode("ascii", "replace").strip()])
        )
    if options.url or required:
        return KeyRing.from_json(call.gateway.fetch("GET", _KEYS))
    return None


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}.") from None


def _write(call: Call, data: bytes) -> None:
    if not getattr(call.options, "output", None):
        print(data.decode("utf-8", "replace"))
        return
    try:
        Path(call.options.output).write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{call.options.output} can't be written: {error.strerror}.") from None
