"""Harbor's own models and ours read the same tasks the same way. Harbor has an environment of its own."""

from __future__ import annotations

from pathlib import Path

from harbor_agreement import differences
from test_format_harbor import FIRST, FULL, written

MINIMAL = '[environment]\ndocker_image = "a:1"\n'
SAME = {
    "full": FULL,
    "first": FIRST,
    "minimal": MINIMAL,
    "empty": "",
    "sizes": MINIMAL + 'memory = " 1.5g "\nstorage = "2048K"\ncpus = 0.5\n',
    "texts": MINIMAL + 'memory_mb = "300"\n[agent]\ntimeout_sec = "12"\n',
    "internet": MINIMAL + "allow_internet = true\n",
    "both": MINIMAL + 'allow_internet = false\nnetwork_mode = "public"\n',
    "hosts": MINIMAL + 'network_mode = "allowlist"\nallowed_hosts = [" A.org. ", "1.2.3.4", "*.B.org", "fe80::/10"]\n',
    "no-hosts": MINIMAL + "allow_internet = false\nallowed_hosts = []\n",
    "none": MINIMAL + 'network_mode = "allowlist"\n',
    "phases": MINIMAL
    + '[agent]\nnetwork_mode = "public"\n[verifier]\nnetwork_mode = "allowlist"\nallowed_hosts = []\n',
    "health": MINIMAL + '[environment.healthcheck]\ncommand = "true"\nstart_period_sec = 3\n',
    "template": MINIMAL + 'env = { A = "${GIVEN}", B = "${UNSET_XYZ:-b:c}", C = "x${GIVEN}", D = "${}" }\n',
    "newer": 'schema_version = "1.4"\nartifacts = ["/app/out"]\n' + MINIMAL,
}
BOTH_REFUSE = {
    "size": MINIMAL + 'memory = "2"\n',
    "conflict": MINIMAL + 'memory = "1G"\nmemory_mb = 1\n',
    "url": MINIMAL + 'network_mode = "allowlist"\nallowed_hosts = ["https://a.org"]\n',
    "port": MINIMAL + 'network_mode = "allowlist"\nallowed_hosts = ["a.org:80"]\n',
    "bits": MINIMAL + 'network_mode = "allowlist"\nallowed_hosts = ["10.0.0.1/8"]\n',
    "star": MINIMAL + 'network_mode = "allowlist"\nallowed_hosts = ["*.1.2.3.4"]\n',
    "loose": MINIMAL + "allowed_hosts = ['a.org']\n",
    "phase": MINIMAL + "[agent]\nallowed_hosts = []\n",
    "mode": MINIMAL + 'network_mode = "open"\n',
    "name": '[task]\nname = "plain"\n' + MINIMAL,
    "type": MINIMAL + "cpus = nan\n",
    "toml": MINIMAL + "[",
}
CANARIES = "# Canary 1\n<!-- x CANARY y -->\n  \n\n# Title\n<!-- canary -->\r\nEnd"


def test_the_two_readings_agree(tmp_path: Path) -> None:
    for name, config in {**SAME, **BOTH_REFUSE}.items():
        written(tmp_path / name, config)
    written(tmp_path / "canaries", MINIMAL, **{"instruction.md": CANARIES})
    written(tmp_path / "no-instruction", MINIMAL, **{"instruction.md": None})
    written(tmp_path / "no-test", MINIMAL, **{"tests/test.sh": None, "tests/test.bat": "rem"})
    written(tmp_path / "escape", MINIMAL)
    (tmp_path / "escape" / "tests" / "up").symlink_to("/etc")
    assert differences(tmp_path, {"GIVEN": "g", "TOKEN": "t"}) == {}
