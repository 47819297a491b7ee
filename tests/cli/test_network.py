"""What commands may reach, through `lathe exec`: flags, settings, credentials, what model and person are told."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import environment, lathe, run, says, scripted

from lathe.sandbox.destinations import THIS_MACHINE
from lathe.sandbox.inspection import Authority

SECRET = "ghp_" + "Zx81Qw" * 6


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"served {self.headers['authorization'] == f'Bearer {SECRET}'}\n".encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture(params=["http", "https"])
def address(request: pytest.FixtureRequest, authority: Authority) -> Iterator[str]:
    """The address of a web server on this machine, as commands in a sandbox write it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    if request.param == "https":
        context = authority.context_for(THIS_MACHINE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{request.param}://{THIS_MACHINE}:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def where(address: str) -> str:
    return address.split("/")[2]


async def test_a_listed_host_is_reached_and_another_is_refused_with_what_would_allow_it(
    tmp_path: Path, address: str
) -> None:
    steps = [run(f"curl -sk {address}; curl -s http://other.example/; true"), says("Done.")]
    ran, server = await scripted(steps, "--allow-host", where(address), "go", cwd=tmp_path)
    assert ran.code == 0, ran.err
    item = ran.items("command_execution")[0]
    assert item["aggregated_output"].startswith("served False\n")
    line = '[network: other.example was refused: not listed; egress.allow = ["other.example"] would allow it]'
    assert item["aggregated_output"].endswith(line)
    port = int(where(address).rpartition(":")[2])
    assert [(c["host"], c["port"], c["allowed"], c["program"]) for c in item["connections"]] == [
        (THIS_MACHINE, port, True, "curl"),
        ("other.example", 0, False, "curl"),
    ]
    told = server.requests[1].body.decode()
    assert "other.example was refused" in told
    assert f"network off but for {where(address)}" in told


@pytest.mark.parametrize("address", ["https"], indirect=True)
async def test_a_credential_stays_outside(tmp_path: Path, address: str, authority: Authority) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(authority.certificate())
    workspace = tmp_path / "ws"
    workspace.mkdir()
    home = Path(os.environ["LATHE_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    settings = f"""
[egress]
allow = ["GET {where(address)}"]
[egress.credentials."{where(address)}"]
env = "SITE_KEY"
[guard]
enabled = false
"""
    (tmp_path / "config.toml").write_text(settings)
    script = f"curl -sS {address}; curl -s -d x {address}; env; cat /proc/*/environ | tr '\\0' '\\n'"
    more = {"SITE_KEY": SECRET, "SSL_CERT_FILE": str(trusted), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    (tmp_path / "xdg" / "lathe").mkdir(parents=True)
    (tmp_path / "config.toml").rename(tmp_path / "xdg" / "lathe" / "config.toml")
    ran, server = await scripted([run(script), says("Done.")], "go", cwd=workspace, env=more)
    assert ran.code == 0, ran.err
    output = ran.items("command_execution")[0]["aggregated_output"]
    assert output.startswith("served True\n")
    assert "POST is not listed" in output
    assert all(SECRET not in text for text in (ran.out, ran.err, *(one.body.decode() for one in server.requests)))
    for path in home.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--allow-host", "https://x.example"], "'https://x.example' is not a host"),
        (["--allow-host", "@nobody"], "there is no preset of that name; there are registries, github"),
        (["-c", "egress.publish=[99999]"], "egress.publish"),
        (["-c", "egress.alow=['x']"], "there is no key egress.alow. Did you mean allow?"),
        (["-c", 'egress.credentials."x.example".env=NOT_THERE'], "NOT_THERE, the secret for x.example, is not set"),
    ],
)
async def test_what_makes_no_sense_is_one_sentence(tmp_path: Path, flags: list[str], message: str) -> None:
    ran = await lathe("exec", "-m", "gpt-x", *flags, "go", cwd=tmp_path, env=environment("http://127.0.0.1:9/v1"))
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.strip().splitlines()) == 1


async def test_a_repository_opens_no_hosts(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".lathe").mkdir()
    (tmp_path / ".lathe" / "config.toml").write_text('[egress]\nallow = ["*"]\n')
    ran = await lathe("config", "show", "--json", "-c", f'projects."{tmp_path}".trusted=true', cwd=tmp_path)
    said = json.loads(ran.out)
    assert any("egress is ignored, for a repository may not set it" in warning for warning in said["warnings"])
    assert said["settings"]["egress.allow"] == {"value": [], "origin": "built-in"}
