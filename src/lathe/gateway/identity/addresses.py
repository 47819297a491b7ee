"""A link that reaches an e-mail address, as a proof that somebody reads what is sent there."""

from __future__ import annotations

import asyncio
import os
import smtplib
import ssl
from email.message import EmailMessage

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.admin.desk import Desk, operation
from lathe.gateway.admin.faults import AdminError, invalid
from lathe.gateway.identity import tickets
from lathe.gateway.identity.proof import DAY_MS, Proof, keep, record
from lathe.gateway.identity.settings import SmtpTable
from lathe.gateway.identity.site import Refused, Site
from lathe.store.gateway.schema import organisations, users

_TIMEOUT_S = 20.0
_METHOD = "email"


@operation("operator", "reviewer", "admin")
async def send_address_link(desk: Desk, subject: str, address: str, site: Site) -> str:
    """Send a link to an address that speaks for a user or an organisation.

    Returns the link where no mail can be sent, for the operator to pass on; "" where it went out.
    """
    kind, _, id = subject.partition(":")
    row = await desk.one(users if kind == "user" else organisations, id, kind)
    if kind == "user":
        address = row.email
    if address.count("@") != 1 or any(letter.isspace() or not letter.isprintable() for letter in address):
        raise invalid("That is no e-mail address.")
    smtp = desk.services.settings.smtp
    if not smtp.host and not desk.is_operator:
        raise AdminError(409, "mail_missing", "This gateway sends no mail.", "An operator can pass a link on.")
    organisation = row.organisation if kind == "user" else row.id
    body = {"subject": subject, "address": address, "organisation": organisation}
    secret = await tickets.issue(desk.connection, "email", body, desk.at, user=id)
    desk.record("proof.asked", subject, organisation=organisation, method=_METHOD, address=address)
    link = f"{site.origin}/console/address?ticket={secret}"
    if not smtp.host:
        return link
    await send(smtp, address, "Confirm your address", _TEXT.format(link=link))
    return ""


_TEXT = """Somebody at a Lathe gateway asks whether this address is yours.

If it is, open this link within a day:

{link}

If you know nothing of it, there is nothing to do.
"""


async def confirm(connection: AsyncConnection, secret: str, now: int) -> tuple[str, str]:
    """Take a link that was followed and keep the proof; return subject and organisation; raise `Refused`."""
    ticket = await tickets.take(connection, "email", secret, now)
    subject, address = str(ticket.body["subject"]), str(ticket.body["address"])
    evidence = {"address": address, "domain": address.rpartition("@")[2].lower()}
    proof = Proof(_METHOD, "address", subject, evidence, now, now + 365 * DAY_MS)
    if subject.startswith("user:"):
        query = select(users).where(users.c.id == ticket.user, users.c.active)
        row = (await connection.execute(query)).one_or_none()
        if row is None or row.email != address:
            raise Refused("The address is no longer this user's.", hint="Ask for a new link.", code="ticket")
        await record(connection, row, proof)
    else:
        await keep(connection, str(ticket.body["organisation"]), proof)
    return subject, str(ticket.body["organisation"])


async def send(smtp: SmtpTable, to: str, subject: str, text: str) -> None:
    """Hand a mail in; raise `AdminError` with what the server said."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = smtp.sender or f"lathe@{smtp.host}", to, subject
    message.set_content(text)
    try:
        await asyncio.to_thread(_hand_in, smtp, message)
    except (OSError, smtplib.SMTPException) as error:
        why = str(error).split("\n", 1)[0][:200]
        raise AdminError(502, "mail_failed", f"The mail could not be sent: {why}.", "Check [smtp].") from None


def _hand_in(smtp: SmtpTable, message: EmailMessage) -> None:
    kind = smtplib.SMTP_SSL if smtp.tls == "implicit" else smtplib.SMTP
    with kind(smtp.host, smtp.port, timeout=_TIMEOUT_S) as server:
        if smtp.tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        if smtp.user:
            server.login(smtp.user, os.environ.get(smtp.password_env, ""))
        server.send_message(message)
