"""Layers of configuration: what wins, where it came from, what is refused, and what a repository may not say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lathe.config.layers import Loaded, load_settings
from lathe.config.settings import PROJECT_KEYS, GuardTable, Settings
from lathe.protocol.errors import ConfigError


class Machine:
    """A machine of its own: a system folder, a person's home and a project."""

    def __init__(self, folder: Path) -> None:
        self.system = folder / "etc"
        self.home = folder / "home"
        self.project = folder / "project"
        (self.project / ".git").mkdir(parents=True)
        self.own = self.home / ".config" / "lathe" / "config.toml"

    def write(self, path: Path, text: str | bytes) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def trust(self, more: str = "") -> None:
        self.write(self.own, f'{more}\n[projects."{self.project}"]\ntrusted = true\n')

    def repository(self, text: str) -> Path:
        return self.write(self.project / ".lathe" / "config.toml", text)

    def load(self, *overrides: str, environ: dict[str, str] | None = None, **flags: object) -> Loaded:
        return load_settings(
            cwd=self.project,
            flags=flags,
            overrides=overrides,
            environ={"HOME": str(self.home), **(environ or {})},
            system=self.system,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_any_file_the_built_in_values_hold(machine: Machine) -> None:
    loaded = machine.load()
    assert loaded.settings == Settings()
    assert loaded.origin("sandbox") == "built-in"
    assert loaded.warnings == ()


def test_each_layer_wins_over_the_one_below_and_origin_names_it(machine: Machine) -> None:
    system = machine.write(machine.system / "config.toml", 'model = "a"\nretries = 1\nidle_timeout_s = 1\n')
    machine.trust('model = "b"\nretries = 2')
    repository = machine.repository('model = "c"\ncompact_at = 0.5\n')
    environ = {"LATHE_MODEL": "d", "LATHE_TOOL_OUTPUT_TOKENS": "77"}
    loaded = machine.load("model=e", environ=environ, approve="never")
    assert (loaded.settings.model, loaded.origin("model")) == ("e", "--config model")
    assert (loaded.settings.tool_output_tokens, loaded.origin("tool_output_tokens")) == (77, "LATHE_TOOL_OUTPUT_TOKENS")
    assert (loaded.settings.compact_at, loaded.origin("compact_at")) == (0.5, str(repository))
    assert (loaded.settings.retries, loaded.origin("retries")) == (2, str(machine.own))
    assert (loaded.settings.idle_timeout_s, loaded.origin("idle_timeout_s")) == (1.0, str(system))
    assert (loaded.settings.approve, loaded.origin("approve")) == ("never", "--approve")


def test_defaults_of_a_command_lose_to_every_layer(machine: Machine) -> None:
    machine.write(machine.own, 'approve = "untrusted"')
    environ = {"HOME": str(machine.home)}
    loaded = load_settings(cwd=machine.project, environ=environ, defaults={"approve": "never", "retries": 9})
    assert (loaded.settings.approve, loaded.settings.retries) == ("untrusted", 9)
    assert loaded.origin("retries") == "built-in"


def test_tables_are_merged_key_by_key(machine: Machine) -> None:
    machine.write(machine.own, '[providers.local]\nbase_url = "http://x/v1"\nwire = "chat"\n')
    loaded = machine.load("providers.local.wire=responses", environ={"LATHE_PROVIDERS__LOCAL__KEY_ENV": "MY_KEY"})
    assert loaded.settings.providers == {"local": {"base_url": "http://x/v1", "wire": "responses", "key_env": "MY_KEY"}}
    assert loaded.origin("providers.local.key_env") == "LATHE_PROVIDERS__LOCAL__KEY_ENV"
    assert loaded.origin("providers.local.base_url") == str(machine.own)


def test_a_variable_reaches_an_entry_whose_name_has_dashes(machine: Machine) -> None:
    machine.write(machine.own, '[providers.my-box]\nbase_url = "http://x/v1"\n')
    loaded = machine.load(environ={"LATHE_PROVIDERS__MY_BOX__WIRE": "messages"})
    assert loaded.settings.providers["my-box"]["wire"] == "messages"


def test_rules_of_all_layers_add_up(machine: Machine) -> None:
    machine.write(machine.system / "config.toml", '[[rules.forbid]]\nprefix = ["a"]\n')
    machine.write(machine.own, '[[rules.forbid]]\nprefix = ["b"]\n[[rules.allow]]\nprefix = ["c", ["d", "e"]]\n')
    rules = machine.load().settings.rules
    assert [rule.prefix for rule in rules.forbid] == [("a",), ("b",)]
    assert rules.allow[0].prefix == ("c", ("d", "e"))


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model=gpt-5", "model", "gpt-5"),
        ("model=4", "model", "4"),
        ('model="4"', "model", "4"),
        ("network=true", "network", True),
        ("retries=0", "retries", 0),
        ("compact_at=0.5", "compact_at", 0.5),
        ('writable_roots=["a", "b"]', "writable_roots", ("a", "b")),
        ('models."a.b".context_window=5', "models", {"a.b": {"context_window": 5}}),
        ("model = a=b", "model", "a=b"),
    ],
)
def test_an_override_is_read_as_toml_where_its_key_takes_that(
    machine: Machine, override: str, key: str, value: object
) -> None:
    assert getattr(machine.load(override).settings, key) == value


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("retries = 1\nmodle = 'x'\n", 2, "no key modle. Did you mean model?"),
        ("\n\nretries = 'many'\n", 3, "retries should be a whole number, not text in quotes"),
        ("sandbox = 'open'\n", 1, "sandbox can't be 'open'. Use read-only, workspace-write or danger-full-access"),
        ("compact_at = 2.0\n", 1, "compact_at should be at most 1.0"),
        ("[providers.x]\nbase_url = 'y'\nbase_ulr = 'z'\n", 3, "providers.x.base_ulr. Did you mean base_url?"),
        ("[providers.x]\nheaders = 3\n", 2, "providers.x.headers should be a table"),
        ("[[rules.ask]]\nprefix = ['a']\n[[rules.ask]]\nprefixx = ['a']\n", 4, "Did you mean prefix?"),
        ("model = 'a\n", None, "is not TOML"),
        ("model = 1\nmodel = 2\n", None, "line 2"),
        ("[mcp]\nx = 3\n", 2, "mcp.x should be a table"),
        ("providers = 3\n", 1, "providers should be a table"),
        ("[models.x.price]\ninput = 1\n", 1, "models.x.price lacks the key output"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_key(machine: Machine, text: str, line: int | None, words: str) -> None:
    machine.write(machine.own, text)
    with pytest.raises(ConfigError) as caught:
        machine.load()
    said = str(caught.value)
    assert words in said
    assert str(machine.own) in said
    assert line is None or f"line {line}:" in said


def test_a_file_that_is_not_utf_8_is_named_with_its_line(machine: Machine) -> None:
    machine.write(machine.own, b"retries = 1\nmodel = '\xff'\n")
    with pytest.raises(ConfigError, match="line 2: this is not UTF-8"):
        machine.load()


def test_a_file_that_cannot_be_read_is_an_error_not_a_default(machine: Machine) -> None:
    machine.own.mkdir(parents=True)
    with pytest.raises(ConfigError, match="can't be read"):
        machine.load()


def test_a_value_of_a_secret_is_never_in_an_error(machine: Machine) -> None:
    machine.write(machine.own, "[providers.x.headers]\nAuthorization = ['Bearer sekrit']\n")
    with pytest.raises(ConfigError) as caught:
        machine.load()
    assert "sekrit" not in str(caught.value)


def test_the_file_of_an_untrusted_project_is_not_even_read(machine: Machine) -> None:
    machine.repository("this is = = no toml")
    loaded = machine.load()
    assert loaded.settings == Settings()
    assert "not trusted" in loaded.warnings[0]
    assert f'[projects."{machine.project}"] trusted = true' in loaded.warnings[0]


def test_a_project_cannot_trust_itself(machine: Machine) -> None:
    machine.repository(f'model = "x"\n[projects."{machine.project}"]\ntrusted = true\n')
    assert machine.load().settings.model is None


def test_trust_of_a_folder_is_not_trust_of_a_repository_below_it(machine: Machine) -> None:
    machine.write(machine.own, f'[projects."{machine.project.parent}"]\ntrusted = true\n')
    machine.repository('model = "x"\n')
    assert machine.load().settings.model is None


def test_a_trusted_project_is_found_through_a_link(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(machine.project)
    machine.write(machine.own, f'[projects."{tmp_path / "link"}"]\ntrusted = true\n')
    machine.repository('model = "x"\n')
    assert machine.load().settings.model == "x"


@pytest.mark.parametrize(
    "text",
    [
        "[providers.openai]\nbase_url = 'http://evil/v1'\n",
        "[mcp.x]\ncommand = 'evil'\n",
        "provider = 'other'\n",
        "writable_roots = ['/']\n",
        "allowed_providers = ['evil']\n",
        "[models.x]\ncontext_window = 1\n",
        "sandbox = 'danger-full-access'\n",
        "approve = 'never'\n",
        "network = true\n",
        "[[rules.allow]]\nprefix = ['curl']\n",
        "instructions_file = '../secret'\n",
        "instructions_file = '/etc/passwd'\n",
        "skills = ['~/x']\n",
    ],
)
def test_even_a_trusted_repository_cannot_widen_its_rights(machine: Machine, text: str) -> None:
    machine.trust()
    before = machine.load().settings
    machine.repository(text)
    loaded = machine.load()
    assert loaded.settings == before
    assert len(loaded.warnings) == 1
    assert str(machine.project) in loaded.warnings[0]


def test_a_trusted_repository_can_tighten(machine: Machine) -> None:
    machine.trust("network = true")
    machine.repository(
        "sandbox = 'read-only'\napprove = 'untrusted'\nnetwork = false\ninstructions_file = 'AGENT.txt'\n"
        "[[rules.forbid]]\nprefix = ['make', 'deploy']\n"
    )
    settings = machine.load().settings
    assert (settings.sandbox, settings.approve, settings.network) == ("read-only", "untrusted", False)
    assert settings.instructions_file == str(machine.project / "AGENT.txt")
    assert settings.rules.forbid[0].prefix == ("make", "deploy")


def test_limits_are_tightened_by_a_repository_and_by_requirements_and_never_loosened(machine: Machine) -> None:
    machine.trust("[limits]\nprocesses = 500\ncpu_seconds = 60\n")
    machine.repository("[limits]\nprocesses = 600\ncpu_seconds = 0\nfile_mb = 100\nmemory_mb = 100000000\n")
    loaded = machine.load()
    limits = loaded.settings.limits
    assert (limits.processes, limits.cpu_seconds, limits.file_mb, limits.memory_mb) == (500, 60, 100, None)
    ignored = ("processes = 600", "cpu_seconds = 0", "memory_mb = 100000000")
    assert all(any(f"limits.{what} is ignored" in said for said in loaded.warnings) for what in ignored)
    path = machine.write(machine.system / "requirements.toml", "[limits]\nprocesses = 100\ncpu_seconds = 90\n")
    loaded = machine.load()
    assert (loaded.settings.limits.processes, loaded.settings.limits.cpu_seconds) == (100, 60)
    assert loaded.origin("limits.processes") == str(path)


def test_a_link_in_a_repository_does_not_lead_its_instructions_out(machine: Machine, tmp_path: Path) -> None:
    machine.trust()
    machine.write(tmp_path / "secret", "x")
    (machine.project / "notes").symlink_to(tmp_path / "secret")
    machine.repository("instructions_file = 'notes'\n")
    assert machine.load().settings.instructions_file is None


def test_no_key_that_reaches_outside_the_sandbox_is_a_projects() -> None:
    assert not PROJECT_KEYS & {"providers", "provider", "mcp", "models", "projects", "writable_roots"}
    assert set(Settings.__struct_fields__) >= PROJECT_KEYS


def test_an_administrator_keeps_the_guard_and_says_by_which_policy(machine: Machine) -> None:
    machine.write(machine.own, '[guard]\nenabled = false\npolicy = "mine.yaml"\n')
    assert machine.load().settings.guard == GuardTable(False, str(machine.own.parent / "mine.yaml"))
    path = machine.write(machine.system / "requirements.toml", '[guard]\nenabled = true\npolicy = "ours.yaml"\n')
    loaded = machine.load()
    assert loaded.settings.guard == GuardTable(True, str(machine.system / "ours.yaml"))
    assert f"guard.enabled is true, not false: {path} demands it." in loaded.warnings


def test_requirements_only_tighten_and_say_so(machine: Machine) -> None:
    path = machine.write(
        machine.system / "requirements.toml",
        "sandbox = 'workspace-write'\napprove = 'on-request'\nnetwork = false\nallowed_providers = ['openai']\n"
        "[[rules.forbid]]\nprefix = ['nc']\n",
    )
    machine.write(machine.own, '[providers.other]\nbase_url = "http://x"\n[[rules.forbid]]\nprefix = ["b"]\n')
    loaded = machine.load(sandbox="danger-full-access", approve="never", network=True)
    settings = loaded.settings
    assert (settings.sandbox, settings.approve, settings.network) == ("workspace-write", "on-request", False)
    assert (settings.providers, settings.allowed_providers) == ({}, ("openai",))
    assert [rule.prefix for rule in settings.rules.forbid] == [("nc",), ("b",)]
    assert loaded.origin("sandbox") == str(path)
    assert len(loaded.warnings) == 3
    stricter = machine.load(sandbox="read-only", approve="untrusted").settings
    assert (stricter.sandbox, stricter.approve) == ("read-only", "untrusted")
    with pytest.raises(ConfigError, match="other is not allowed"):
        machine.load(provider="other")


@pytest.mark.parametrize("text", ["network = true\n", "model = 'x'\n", "[[rules.allow]]\nprefx = 1\n"])
def test_requirements_that_make_no_sense_are_an_error(machine: Machine, text: str) -> None:
    machine.write(machine.system / "requirements.toml", text)
    with pytest.raises(ConfigError, match=r"requirements\.toml, line \d"):
        machine.load()


def test_a_variable_that_looks_like_a_slip_is_mentioned_and_others_are_left_alone(machine: Machine) -> None:
    loaded = machine.load(environ={"LATHE_MODLE": "x", "LATHE_HOME": "/x", "LATHE_GATEWAY_PORT": "1"})
    assert loaded.warnings == ("LATHE_MODLE is no setting and is ignored. Did you mean LATHE_MODEL?",)


def test_a_wrong_variable_or_flag_is_named(machine: Machine) -> None:
    with pytest.raises(ConfigError, match="LATHE_RETRIES: retries should be a whole number"):
        machine.load(environ={"LATHE_RETRIES": "x"})
    with pytest.raises(ConfigError, match="--config: there is no key modle"):
        machine.load("modle=x")
    with pytest.raises(ConfigError, match="there is no value"):
        machine.load("model")
    with pytest.raises(ConfigError, match="is no key"):
        machine.load("a b=c")


def test_loading_without_files_imports_no_toml_parser(machine: Machine) -> None:
    code = (
        "import sys, pathlib; from lathe.config.layers import load_settings;"
        f"here = pathlib.Path({str(machine.project)!r});"
        "load_settings(cwd=here, environ={'HOME': '/nowhere', 'LATHE_MODEL': 'x'});"
        "assert 'tomllib' not in sys.modules and 'argparse' not in sys.modules and 'difflib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rules_for_paths_add_up_and_a_repository_can_only_tighten_them(machine: Machine) -> None:
    machine.write(machine.system / "config.toml", '[paths]\nhide = ["a"]\n')
    machine.trust('[paths]\nhide = ["b"]\nwrite = ["~/cache"]\n')
    place = machine.repository('[paths]\nread = [".env", "/etc"]\nwrite = ["/"]\nhide = ["c/**", "../x", "~/y"]\n')
    loaded = machine.load('paths.hide=["d"]')
    paths = loaded.settings.paths
    root = machine.project
    assert paths.hide == ("a", "b", f"{root}/c/**", "d")
    assert (paths.write, paths.read, paths.protect) == (("~/cache",), (), (f"{root}/.env",))
    assert [warning.partition(" is ignored")[0].removeprefix(f"{place}: ") for warning in loaded.warnings] == [
        "paths.write",
        "an entry of paths.protect",
        "an entry of paths.hide",
    ]
    assert loaded.origin("paths.hide").endswith("--config paths.hide")
    with pytest.raises(ConfigError, match=r"paths\.hidden") as caught:
        machine.load('paths.hidden=["d"]')
    assert "Did you mean hide?" in caught.value.hint
