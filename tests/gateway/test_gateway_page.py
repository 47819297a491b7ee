"""What the page on the gateway shows is run as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from serving import Models, serving

from lathe.models.script import WIRES, Step, Words

PAGE = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")


def test_the_clients_that_the_page_sets_up_get_an_answer(tmp_path: Path, scripted_models: Models) -> None:
    scripted_models.play(lambda request: Step(say=(Words("Good day."),)))
    settings = f'[upstreams.up]\nbase_url = "{scripted_models.server.base_url}"\nwires = {list(WIRES)}\nkey_env = ""\n'
    with serving(tmp_path, settings + '[models.coder]\nroutes = ["up"]\n') as served:
        address, host = "http://127.0.0.1:8484", served.url
        for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
            ready = code.replace(address, host).replace("=KEY", f"={served.key!r}")
            done = subprocess.run([sys.executable, "-c", ready], capture_output=True, text=True)
            assert "Good day." in done.stdout, done.stderr
        for line in re.findall(r"^(curl .*?[^\\])$", PAGE, re.MULTILINE | re.DOTALL):
            if shutil.which("curl") is None:
                continue
            ready = f"KEY={served.key}; {line.replace(address, host)}"
            done = subprocess.run(ready, shell=True, capture_output=True, text=True)
            assert '"choices"' in done.stdout, done.stderr + done.stdout
        lathe = next(re.finditer(r"^(OPENAI_BASE_URL=.* )lathe (exec .*)$", PAGE, re.MULTILINE))
        ready = f"KEY={served.key}; {lathe[1].replace(address, host)}{sys.executable} -m lathe {lathe[2]}"
        done = subprocess.run(ready, shell=True, capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL)
        assert "Good day." in done.stdout and done.returncode == 0, done.stderr
