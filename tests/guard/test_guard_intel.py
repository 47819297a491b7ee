"""`lathe guard intel`: what is kept of what others reported, and the feeds that are pulled on a schedule."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from intel_records import BUNDLE, RECORD

from lathe.cli.main import main
from lathe.guard.feeds import Feed, due, sync_due
from lathe.guard.indicators import Indicator, read_record
from lathe.guard.intel import Intel
from lathe.protocol.errors import ModelUnreachable

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Taxii(BaseHTTPRequestHandler):
    """One collection of TAXII 2.1, two objects a page."""

    objects: tuple[dict[str, Any], ...] = ()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query)
        right = self.headers["Authorization"] == "Bearer right"
        status = 200 if right and parts.path == "/api/collections/c1/objects/" else 401
        at = int(asked.get("next", ["0"])[0])
        more = at + 2 < len(self.objects)
        envelope = {"more": more, "objects": self.objects[at : at + 2], **({"next": str(at + 2)} if more else {})}
        body = json.dumps(envelope if status == 200 else {"title": "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/taxii+json;version=2.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collection() -> Iterator[str]:
    Taxii.objects = tuple(BUNDLE["objects"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taxii)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api/collections/c1/"
    server.shutdown()
    thread.join()
    server.server_close()


def ran(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    code = main(["guard", "intel", *map(str, argv)])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_what_is_added_and_pulled_is_kept_and_explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collection: str
) -> None:
    monkeypatch.setenv("LATHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TOKEN", "Bearer right")
    (tmp_path / "mal.json").write_text(json.dumps(RECORD))
    (tmp_path / "rule.yml").write_text(
        "title: a stand-in\nid: r1\nlogsource: {category: process_creation, product: linux}\n"
        "detection: {a: {Image|endswith: /tool}, condition: a}\n"
    )
    code, said = ran(capsys, "add", tmp_path / "mal.json", tmp_path / "rule.yml")
    assert (code, said) == (0, "Kept 2 indicators and 1 rules.\n")
    code, said = ran(capsys, "sync", collection, "--authorization-env", "TOKEN")
    assert code == 0 and said.startswith("Kept 6 indicators of http") and "Left out: indicator--5: process:name" in said
    code, said = ran(capsys, "explain", "bad.example")
    assert code == 0 and "(indicator--1) 'a stand-in', confidence 90 of 100, from 2026-01-01, until 2026-12-31" in said
    assert "not in force" in ran(capsys, "explain", "old.example")[1]
    assert "203.0.113.0/24" in ran(capsys, "explain", "203.0.113.77")[1]
    assert "MAL-2026-1" in ran(capsys, "explain", "pypi/some_thing")[1]
    assert ran(capsys, "explain", "good.example")[0] == 1
    Taxii.objects = Taxii.objects[:1]  # what the collection no longer holds no longer counts
    assert ran(capsys, "sync", collection, "--authorization-env", "TOKEN")[0] == 0
    assert ran(capsys, "explain", "bad.example")[0] == 1
    assert "1 Sigma rules" in ran(capsys, "list")[1]

    from lathe.guard.intel import Intel

    monitor = Intel(tmp_path / "home").monitor()
    assert [one.monitor for one in monitor.look("tool && npm i @scope/thing")] == ["acts", "intel"]


@pytest.mark.parametrize(
    ("argv", "text", "sentence"),
    [
        (("add", "FILE"), "{", "is no JSON"),
        (("add", "FILE"), "[]", "holds no STIX bundle and no OSV record."),
        (("add", "FILE"), '{"id": "CVE-1", "affected": []}', "is no record of a malicious package"),
        (("add", "/no/such/file"), "", "can't be read: No such file"),
        (("sync", "http://taxii.example/c/"), "", "is asked over https only."),
        (("sync", "COLLECTION"), "", "answers with 401."),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collection: str,
    argv: tuple[str, ...], text: str, sentence: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("LATHE_HOME", str(tmp_path / "home"))
    (tmp_path / "file").write_text(text)
    filled = {"FILE": str(tmp_path / "file"), "COLLECTION": collection}
    code, said = ran(capsys, *(filled.get(one, one) for one in argv))
    assert code == 2 and sentence in said


def test_a_feed_is_pulled_when_due_and_keeps_how_it_went(tmp_path: Path) -> None:
    store = Intel(tmp_path)
    for name in ("good", "bad"):
        store.keep_feed(Feed(f"https://{name}.example/c/", 3600, since=NOW))
    down = {"bad"}

    def pull(feed: Feed) -> list[Any]:
        if any(name in feed.url for name in down):
            raise ModelUnreachable("It can't be reached.")
        return BUNDLE["objects"]

    def states(after: timedelta) -> list[str]:
        return sorted(feed.state(NOW + after) for feed in store.feeds())

    assert states(timedelta()) == ["due", "due"]
    assert sorted((one.kept, one.error) for one in sync_due(store, NOW, pull)) == [(0, "It can't be reached."), (6, "")]
    assert states(timedelta()) == ["failed", "waiting"] and due(store, NOW) == []
    # what failed is tried again soon, and then less and less often
    soon = [feed.url for feed in due(store, NOW + timedelta(minutes=5))]
    assert soon == ["https://bad.example/c/"]
    sync_due(store, NOW + timedelta(minutes=5), pull)
    assert not due(store, NOW + timedelta(minutes=14)) and due(store, NOW + timedelta(minutes=15))
    assert states(timedelta(hours=4)) == ["expired", "expired"]
    down.clear()
    assert [one.error for one in sync_due(store, NOW + timedelta(hours=4), pull)] == ["", ""]
    assert states(timedelta(hours=4)) == ["waiting", "waiting"]


def test_a_schedule_is_kept_and_followed_by_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collection: str
) -> None:
    monkeypatch.setenv("LATHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TOKEN", "Bearer right")
    assert ran(capsys, "sync", collection, "--authorization-env", "TOKEN", "--every", "6h")[0] == 0
    assert ran(capsys, "sync", "--due") == (0, "No collection is due.\n")
    assert f"waiting {collection}, every 6:00:00, last pulled" in ran(capsys, "list")[1]
    store = Intel(tmp_path / "home")
    (feed,) = store.feeds()
    store.keep_feed(feed.after(datetime.now(UTC) - timedelta(hours=7)))
    monkeypatch.setenv("TOKEN", "Bearer wrong")
    assert ran(capsys, "sync", "--due") == (1, f"{collection}: The TAXII server answers with 401.\n")
    assert f"failed {collection}" in ran(capsys, "list")[1]
    assert "Bearer" not in (tmp_path / "home/guard/intel/feeds.jsonl").read_text()
    assert ran(capsys, "sync", collection, "--every", "never")[0] == 0 and store.feeds() == []
    assert ran(capsys, "sync", collection, "--every", "soon")[0] == 2
    assert ran(capsys, "sync", collection, "--due")[0] == 2


def test_confidence_fades_where_a_source_names_no_end() -> None:
    address = Indicator("ipv4", "203.0.113.9", "feed", "i1", confidence=80, since=NOW)
    assert [address.trust(NOW + timedelta(days=days)) for days in (0, 30, 60)] == [80, 40, 20]
    assert address.holds(NOW + timedelta(days=89)) and not address.holds(NOW + timedelta(days=90))
    for lasting in (
        Indicator("hash", "ab" * 32, "feed", "i2", confidence=80, since=NOW),
        Indicator("ipv4", "203.0.113.9", "feed", "i3", confidence=80, since=NOW, until=NOW + timedelta(days=999)),
    ):
        assert lasting.trust(NOW + timedelta(days=500)) == 80 and lasting.holds(NOW + timedelta(days=500))


def test_a_monitor_that_runs_on_sees_what_is_added(tmp_path: Path) -> None:
    here, elsewhere = Intel(tmp_path), Intel(tmp_path)
    first = here.current()
    assert here.current() is first and not first.look("curl https://bad.example/")
    elsewhere.add(read_record(BUNDLE, "feed"))
    assert [one.monitor for one in here.current().look("curl https://bad.example/")] == ["intel"]
    assert here.current() is here.current() is not first
