"""`lathe access`: decisions and appeals, and measures about accounts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lathe.cli.access_client import segment
from lathe.cli.access_output import print_json, print_lines, print_table, show, show_list
from lathe.gateway.refusals import moment
from lathe.protocol.codec import encode
from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from lathe.cli.access import Call, Words

_APPEAL = ("id", "state", "decision", "clause", "by", "at:time", "due:time", "overdue", "text", "reviewer",
           "decided:time", "reason", "fault", "case")  # fmt: skip
_PROPOSAL = (
    "id",
    "state",
    "wanted",
    "holds",
    "users",
    "organisation",
    "at:time",
    "decided:time",
    "approvals",
    "version",
    "why",
)
_WHY = "the reason, which the person reads"


def add_commands(words: Words) -> None:
    """Add the commands of this module."""
    command = words.add("decisions", "List decisions about you, or show one", decisions)
    command.add_argument("id", nargs="?", help="one decision (dec_…), or a measure about an account (pro_…)")
    command.add_argument("--step", default="", help="only this step: refuse, withhold, …")
    command = words.add("notices", "List what you have been told", notices)
    command = words.add("appeal", "Have a decision looked at by a person who had no part in it", appeal)
    command.add_argument("decision", help="dec_… or pro_…, as the notice says")
    what = command.add_mutually_exclusive_group()
    what.add_argument("--text", default="", help="why it was wrong, in your words")
    what.add_argument("--file", metavar="FILE", help="the same from a file, or - for standard input")
    _add_appeals(words.group("appeals", "Appeals: the queue, and decisions on them"))
    _add_accounts(words.group("accounts", "Measures about accounts: two people must agree"))


def _add_appeals(words: Words) -> None:
    command = words.add("list", "List appeals, those that are due first before all others", appeals_list)
    states = ["waiting", "open", "taken", "upheld", "reversed", "withdrawn", "all"]
    command.add_argument("--state", choices=states, default="waiting")
    command.add_argument("--mine", action="store_true", help="only your own")
    words.add("show", "Show an appeal with all that the decision rested on", appeals_show).add_argument("id")
    words.add("take", "Take an appeal in hand", appeals_take).add_argument("id")
    words.add("withdraw", "Withdraw your own appeal", appeals_withdraw).add_argument("id")
    command = words.add("decide", "Uphold a decision or reverse it", appeals_decide)
    command.add_argument("id")
    verdict = command.add_mutually_exclusive_group(required=True)
    verdict.add_argument("--uphold", dest="verdict", action="store_const", const="uphold", help="the decision stands")
    verdict.add_argument("--reverse", dest="verdict", action="store_const", const="reverse", help="it was wrong")
    command.add_argument("--fault", choices=["policy", "monitor", "facts"], default="", help="what was wrong")
    command.add_argument("--reason", required=True, help=_WHY)
    command.add_argument("--tier", choices=["default", "verified", "organisation", "specialist"], help="as it was")
    command.add_argument("--scope", metavar="WORD", action="append", help="as it was")
    command.add_argument("--target", metavar="NAME=RELATION", action="append", default=[],
                         help="what a target is to the person: own, engaged, third, unclear")  # fmt: skip
    command.add_argument("--material", metavar="FILE", help="the text that a monitor was wrong about")
    command = words.add("case", "Write the case that a reversal has become", appeals_case)
    command.add_argument("id")
    command.add_argument("-o", "--output", metavar="FOLDER", help="as a file there, such as tests/guard/cases")


def _add_accounts(words: Words) -> None:
    command = words.add("list", "List proposals about accounts", accounts_list)
    states = ["open", "in_force", "declined", "lifted", "replaced", "withdrawn", "all"]
    command.add_argument("--state", choices=states, default="open")
    words.add("show", "Show a proposal and all that it rests on", accounts_show).add_argument("id")
    for name, help, run in (
        ("approve", "Approve a proposal; it holds when two different people have", accounts_approve),
        ("object", "Object to a proposal, which ends it", accounts_object),
        ("lift", "Propose that a measure be lifted, for another person to approve", accounts_lift),
    ):
        command = words.add(name, help, run)
        command.add_argument("id")
        command.add_argument("--reason", required=True, help=_WHY)
        if name != "lift":
            command.add_argument("--version", default="", help="only for what it said when you read it (show)")


def decisions(call: Call) -> None:
    """List decisions or show one."""
    if not call.options.id:
        columns = ("id", "at:time", "step", "clause", "code", "state", "request")
        show_list(call, "/v1/decisions", {"mine": True, "step": call.options.step}, columns)
        return
    found = call.gateway.ask("GET", f"/v1/decisions/{segment(call.options.id)}")
    if call.options.json:
        print_json(found)
        return
    print_lines(found["text"])
    told = {"stands": "", "appealed": "An appeal waits.", "upheld": "It was upheld.", "reversed": "It was reversed."}
    if line := told[found["state"]]:
        print(f"{line} See lathe access appeals show {found['appeal']}." if found["appeal"] else line)


def notices(call: Call) -> None:
    """List notices."""
    found = list(call.gateway.pages("/v1/notices", {}))
    if call.options.json:
        print_json(found)
        return
    if not found:
        print("There is none.")
    for number, one in enumerate(found):
        if number:
            print()
        print(f"{moment(one['at'])}  {'' if one['seen'] else '(new) '}", end="")
        print_lines(f"{one['title']}\n{one['text']}")


def appeal(call: Call) -> None:
    """Make an appeal."""
    text = _read(call.options.file) if call.options.file else call.options.text
    found = call.gateway.ask("POST", f"/v1/decisions/{segment(call.options.decision)}/appeal", {"text": text})
    if call.options.json:
        print_json(found)
        return
    print(f"The appeal {found['id']} is on record. A person decides it by {moment(found['due'])}.")


def appeals_list(call: Call) -> None:
    """List appeals."""
    state = "" if call.options.state == "all" else call.options.state
    columns = ("id", "due:time", "overdue", "state", "clause", "by", "reviewer", "decision")
    show_list(call, "/v1/appeals", {"state": state, "mine": call.options.mine or None}, columns)


def appeals_show(call: Call) -> None:
    """Show an appeal."""
    found = call.gateway.ask("GET", f"/v1/appeals/{segment(call.options.id)}")
    show(call, found["appeal"], _APPEAL)
    if call.options.json:
        return
    if repair := found["appeal"]["repair"]:
        put_right = f"{repair['items']} items, {repair['tokens']} tokens, ${repair['cost'] / 1e6:.4f}"
        print(f"put right: {put_right}")
    print("\nThe decision:")
    print_lines(found["decision"]["text"])
    if found["situation"]:
        print("\nIt rested on:")
        print_lines("\n".join(f"  {name}: {_plain(value)}" for name, value in found["situation"].items() if value))
    if found["material"]:
        print("\nWhat was judged:")
        print_lines("\n".join(part["text"] for part in found["material"]["parts"]))
    for one in found["earlier"]:
        print(f"\nBefore: {one['id']}, {one['state']} by {one['reviewer']}: ", end="")
        print_lines(one["reason"])
    if found["why_not"]:
        print(f"\nYou can't decide it: {found['why_not']}")


def appeals_take(call: Call) -> None:
    """Take an appeal."""
    show(call, call.gateway.ask("POST", f"/admin/v1/appeals/{segment(call.options.id)}/take", {}), _APPEAL)


def appeals_withdraw(call: Call) -> None:
    """Withdraw an appeal."""
    show(call, call.gateway.ask("POST", f"/v1/appeals/{segment(call.options.id)}/withdraw", {}), _APPEAL)


def appeals_decide(call: Call) -> None:
    """Decide an appeal."""
    options = call.options
    body: dict[str, Any] = {"verdict": options.verdict, "reason": options.reason, "fault": options.fault}
    facts = {name: value for name in ("tier", "scope") if (value := getattr(options, name)) is not None}
    if options.target:
        facts["targets"] = dict(map(_target, options.target))
    body |= {"corrected": facts} if facts else {}
    body |= {"material": _read(options.material)} if options.material else {}
    found = call.gateway.ask("POST", f"/admin/v1/appeals/{segment(options.id)}/decide", body)
    show(call, found, _APPEAL)
    if not options.json and found["case"]:
        print(f"Its case: lathe access appeals case {found['id']} -o tests/guard/cases")
    elif not options.json and found["repair"]:
        print(found["repair"]["no_case"])


def appeals_case(call: Call) -> None:
    """Print a case or write its file."""
    found = call.gateway.ask("GET", f"/admin/v1/appeals/{segment(call.options.id)}/case")
    if not call.options.output:
        print_json(found["case"])
        return
    folder = Path(call.options.output).expanduser()
    path = folder / Path(found["file"]).name
    import msgspec

    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(encode(found["case"]), indent=2) + b"\n")
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None
    print_json({"file": str(path)}) if call.options.json else print(path)


def accounts_list(call: Call) -> None:
    """List proposals."""
    state = "" if call.options.state == "all" else call.options.state
    columns = ("id", "state", "wanted", "holds", "users", "approvals", "at:time", "why")
    show_list(call, "/admin/v1/accounts", {"state": state}, columns)


def accounts_show(call: Call) -> None:
    """Show a proposal."""
    _show_account(call, call.gateway.ask("GET", f"/admin/v1/accounts/{segment(call.options.id)}"))


def accounts_approve(call: Call) -> None:
    """Approve a proposal."""
    _review(call, "approve")


def accounts_object(call: Call) -> None:
    """Object to a proposal."""
    _review(call, "object")


def accounts_lift(call: Call) -> None:
    """Propose that a measure be lifted."""
    path = f"/admin/v1/accounts/{segment(call.options.id)}/lift"
    found = call.gateway.ask("POST", path, {"reason": call.options.reason})
    _show_account(call, found)
    if not call.options.json:
        print(f"Another person approves it: lathe access accounts approve {found['proposal']['id']} --reason …")


def _review(call: Call, verdict: str) -> None:
    path = f"/admin/v1/accounts/{segment(call.options.id)}/review"
    _show_account(
        call,
        call.gateway.ask(
            "POST", path, {"verdict": verdict, "reason": call.options.reason, "version": call.options.version}
        ),
    )


def _show_account(call: Call, found: dict[str, Any]) -> None:
    if call.options.json:
        print_json(found)
        return
    show(call, found["proposal"], _PROPOSAL)
    account = found["account"]
    print(f"the ledger now: {account['state']}, score {account['score']:.1f} of {account['entries']} decisions")
    for one in account["changes"]:
        print(f"  {moment(one['at'])}  {one['before']} -> {one['after']}: ", end="")
        print_lines(one["sentence"])
    print_table(found["decisions"], ("id", "at:time", "step", "clause", "state", "request"))
    for one in found["reviews"]:
        print(f"{one['verdict']} by {one['reviewer']} on {moment(one['at'])}: ", end="")
        print_lines(one["note"])


def _target(text: str) -> tuple[str, str]:
    name, _, relation = text.rpartition("=")
    if not name or relation not in ("own", "engaged", "third", "unclear"):
        raise UsageError(f"{text!r} is no target.", hint="Give NAME=own, =engaged, =third or =unclear.")
    return name, relation


def _read(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is no text.") from None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()
