"""A PostgreSQL server of one's own, for as long as a test run or a benchmark lasts: a cluster in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

QUICK = ("fsync=off", "full_page_writes=off", "autovacuum=off")
"""Settings for tests: a power cut loses what was committed, a kill does not."""


class Cluster:
    """A running server, reached by a socket in its folder; raises `FileNotFoundError` where PostgreSQL is missing."""

    def __init__(self, settings: tuple[str, ...] = QUICK) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lathe-pg-"))
        self._settings = settings
        self._user: str | None = None
        if os.geteuid() == 0:  # the server refuses to run as root
            self._user = "postgres"
            shutil.chown(self.folder, self._user)
        self._server: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.template = "template1"
        """What new databases are copies of, where nothing else is said."""
        try:
            self._run("initdb", "-D", "data", "-U", "lathe", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server, which may have been stopped, and wait until it answers."""
        command = [str(program("postgres")), "-D", "data", "-k", str(self.folder), "-c", "listen_addresses="]
        for setting in (*self._settings, "max_connections=200", "shared_buffers=32MB"):
            command += ["-c", setting]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command, cwd=self.folder, user=self._user, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while self._ask("select 1", check=False).returncode:
            if self._server.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server at once, connections and all; what was committed stays."""
        if self._server is not None:
            self._server.send_signal(3)  # SIGQUIT is PostgreSQL's immediate shutdown
            self._server.wait()
            self._server = None

    def new_database(self) -> str:
        """Make a database and return its name."""
        self._databases += 1
        name = f"d{self._databases}"
        self._ask(f"create database {name} template {self.template}")
        return name

    def url(self, database: str) -> str:
        """Return SQLAlchemy's URL of a database."""
        return f"postgresql+asyncpg://lathe@/{database}?host={self.folder}"

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, line: str, *, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return self._run("psql", "-h", str(self.folder), "-U", "lathe", "-d", "postgres", "-qc", line, check=check)

    def _run(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        command = [str(program(name)), *arguments]
        done = subprocess.run(command, cwd=self.folder, user=self._user, capture_output=True)
        if check and done.returncode:
            raise RuntimeError(f"{name}: {done.stderr.decode(errors='replace')[-2000:]}")
        return done


def program(name: str) -> Path:
    """Return a program of PostgreSQL, of the newest version; raise `FileNotFoundError`."""
    # Debian puts no more than the client's programs on the path.
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1]
    if found := shutil.which(name):
        return Path(found)
    raise FileNotFoundError(f"{name} of PostgreSQL is not on this machine; scripts/setup dev installs it.")
