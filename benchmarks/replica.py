"""`lathe serve` as a process of its own, with a home of its own: for benchmarks and tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

_LISTENS = re.compile(r"listens on (\S+);")


class Replica:
    """A gateway. `url` has no `/v1`; `key` is the first administrator's; `home` its LATHE_HOME.

    `key` is given where its database knows one already: then none is printed.
    """

    def __init__(self, folder: Path, settings: str, *args: str, database: str = "", key: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.home = folder / "lathe"
        self.url = ""
        self.key = key
        self.process: subprocess.Popen[bytes] | None = None
        self._config = folder / "gateway.toml"
        self._config.write_text(settings)
        self._args = [*args, *(["--database", database] if database else [])]
        self._listen = "127.0.0.1:0"

    def start(self, environ: dict[str, str] | None = None) -> None:
        """Start it, again at the address that it had before, and wait until it listens; raise `RuntimeError`."""
        out, err = self.folder / "out", self.folder / "err"
        command = [sys.executable, "-m", "lathe", "serve", "--config", str(self._config), "--listen", self._listen]
        env = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        env |= {"HOME": str(self.folder), "LATHE_HOME": str(self.home), **(environ or {})}
        with out.open("wb") as to_out, err.open("wb") as to_err:
            self.process = subprocess.Popen(
                [*command, *self._args], env=env, stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_err
            )
        while (found := _LISTENS.search(err.read_text())) is None:
            if self.process.poll() is not None:
                raise RuntimeError(err.read_text())
            time.sleep(0.01)
        self.url = found[1]
        self._listen = self.url.partition("://")[2]
        while not self.key:
            self.key = out.read_text().partition("\n")[0]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait()
        self.process = None
        return code

    def resident_mb(self) -> float:
        """Return the memory that it has now."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def said(self) -> str:
        """What it has written for people since its start."""
        return (self.folder / "err").read_text()
