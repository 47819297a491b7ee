"""Base images that stand in for those of a registry which cannot be reached.

They are made of what package registries have: a minimal Debian or Ubuntu by debootstrap, for `python:X.Y` with a
Python of this machine. They are like the images that they are named after, not the same; a label says what they are.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import textwrap
from pathlib import Path
from typing import Final, NamedTuple

from lathe.evals.environments.base import EnvironmentFault
from lathe.evals.environments.storage import Storage, finish

LABEL: Final = "dev.lathe.stand-in"
BUNDLE: Final = "/usr/local/share/lathe/ca-certificates.pem"
"""Where the machine's certificates lie: installing `ca-certificates` writes the usual file anew."""
TRUST: Final = (
    *("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"),
)
_PASSED: Final = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "NPM_CONFIG_REGISTRY"),
)
_DEBIAN: Final = "http://deb.debian.org/debian"
_UBUNTU: Final = "http://archive.ubuntu.com/ubuntu"
_SUITES: Final = {
    "ubuntu": {"24.04": "noble", "22.04": "jammy", "20.04": "focal", "latest": "noble"},
    "debian": {"13": "trixie", "12": "bookworm", "11": "bullseye", "latest": "trixie", "stable": "trixie"},
}
_BOOTSTRAP_S: Final = 1800.0
_PACKAGES_OF_PYTHON: Final = (
    *("ca-certificates", "netbase", "tzdata", "libssl3", "libffi8", "libsqlite3-0", "libreadline8", "libbz2-1.0"),
    *("liblzma5", "libexpat1", "zlib1g", "libncursesw6", "libuuid1", "libnsl2", "libgdbm6"),
)
_FULL: Final = ("build-essential", "git", "curl", "wget", "procps", "libssl-dev", "libffi-dev", "zlib1g-dev")
"""The most of what an image without `slim` has more."""
_LEFT_OUT: Final = ("site-packages", "__phello__", "test", "idlelib", "turtledemo")


class Recipe(NamedTuple):
    """What a stand-in is made of: a distribution's suite, and a version of Python, "" for none."""

    family: str
    suite: str
    python: str = ""
    full: bool = False

    @property
    def base(self) -> str:
        """The name that the stand-in without Python has in the storage."""
        return f"localhost/lathe-base:{self.suite}"


def recipe_of(image: str) -> Recipe | None:
    """Return how to stand in for an image, None where nothing can."""
    name, _, tag = image.removeprefix("docker.io/").removeprefix("library/").partition(":")
    tag = tag.partition("@")[0] or "latest"
    words = tag.removesuffix("-slim").split("-")
    if name in ("ubuntu", "debian"):
        major = words[0] if name == "ubuntu" else words[0].partition(".")[0]
        suites = _SUITES[name]
        suite = suites.get(major, words[0] if words[0] in suites.values() else "")
        return Recipe(name, suite) if suite else None
    version = re.match(r"3\.\d+", words[0])
    if name == "python" and version:
        suite = next((word for word in words[1:] if word in _SUITES["debian"].values()), "bookworm")
        return Recipe("debian", suite, version.group(), full="slim" not in tag)
    return None


def find_python(version: str) -> Path | None:
    """Return the folder of a Python of this machine that can be copied, None where there is none."""
    places = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions", Path("/opt/python")]
    found = [folder for place in places for folder in sorted(place.glob(f"{version}*"))]
    return next((folder for folder in reversed(found) if (folder / "bin" / f"python{version}").is_file()), None)


class StandIns:
    """Makes stand-ins in a storage, each once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._work = storage.home / "bases"

    async def make(self, image: str, log: Path) -> str:
        """Make what stands in for an image, under its name, and return a sentence; raise `EnvironmentFault`."""
        recipe = recipe_of(image)
        if recipe is None:
            raise EnvironmentFault("build", f"The base image {image} cannot be had here, and nothing stands in for it.")
        python = find_python(recipe.python) if recipe.python else None
        if recipe.python and python is None:
            raise EnvironmentFault(
                "build", f"For {image} a Python {recipe.python} is missing (pyenv install {recipe.python})."
            )
        if shutil.which("debootstrap") is None:
            raise EnvironmentFault("build", f"For {image} debootstrap is missing (apt-get install debootstrap).")
        sentence = f"{image} is a stand-in: {recipe.family} {recipe.suite} by debootstrap"
        if python is not None:
            sentence += f", Python {python.name} of this machine"
        try:
            if not await self._storage.has(recipe.base):
                await self._bootstrap(recipe, log)
            await self._finish(recipe, image, python, sentence, log)
        except (OSError, shutil.Error) as error:
            raise EnvironmentFault("build", f"What stands in for {image} could not be made: {error}.") from None
        return sentence

    async def _bootstrap(self, recipe: Recipe, log: Path) -> None:
        folder = self._work / recipe.suite
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mirror = _UBUNTU if recipe.family == "ubuntu" else _DEBIAN
        scripts = Path("/usr/share/debootstrap/scripts")
        argv = ["debootstrap", "--variant=minbase", recipe.suite, str(folder), mirror]
        if not (scripts / recipe.suite).exists():
            # what is newer than debootstrap is made like the oldest, to which all others are links
            argv.append(str(scripts / ("gutsy" if recipe.family == "ubuntu" else "sid")))
        ended = await finish(argv, log, _BOOTSTRAP_S, self._storage.environment())
        if ended.code:
            raise EnvironmentFault("build", f"debootstrap {recipe.suite} failed: {ended.last}.")
        await asyncio.to_thread(_settle, folder, recipe)
        container = f"lathe-base-{recipe.suite}"
        await self._storage.do("rm", container, log=log)
        await self._must(log, "from", "--name", container, "scratch")
        await self._must(log, "add", container, str(folder), "/")
        await self._must(log, "run", "--isolation", "chroot", container, "chmod", "755", "/")
        await self._must(log, "config", *_configuration(recipe), container)
        await self._must(log, "commit", "--rm", "--format", "docker", container, recipe.base)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _finish(self, recipe: Recipe, image: str, python: Path | None, sentence: str, log: Path) -> None:
        """Tag the base with a name, after a Python was added where one is wanted."""
        container = "lathe-stand-in-" + re.sub(r"[^a-z0-9]+", "-", image)
        await self._storage.do("rm", container, log=log)
        await self._must(log, "from", "--pull-never", "--name", container, recipe.base)
        if python is not None:
            packages = [*_PACKAGES_OF_PYTHON, *(_FULL if recipe.full else ())]
            install = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
            clean = "rm -rf /var/lib/apt/lists/*"
            await self._must(log, "run", "--isolation", "chroot", container, "sh", "-c", f"{install} && {clean}")
            copy = self._work / f"python{recipe.python}"
            await asyncio.to_thread(_copy_python, python, copy, recipe.python)
            await self._must(log, "add", container, str(copy), "/usr/local")
            compile_ = f"python{recipe.python} -m compileall -q /usr/local/lib/python{recipe.python} || true"
            await self._must(log, "run", "--isolation", "chroot", container, "sh", "-c", f"ldconfig && {compile_}")
            await asyncio.to_thread(shutil.rmtree, copy, ignore_errors=True)
            await self._must(log, "config", "--cmd", f"python{recipe.python}", container)
        await self._must(log, "config", "--label", f"{LABEL}={sentence}", container)
        await self._must(log, "commit", "--rm", "--format", "docker", container, _full_name(image))

    async def _must(self, log: Path, *arguments: str) -> None:
        ended = await self._storage.do(*arguments, log=log, timeout_s=_BOOTSTRAP_S)
        if ended.code:
            raise EnvironmentFault("build", f"A stand-in could not be made (buildah {arguments[0]}): {ended.last}.")


def _full_name(image: str) -> str:
    name = image.removeprefix("docker.io/").removeprefix("library/")
    return f"docker.io/library/{name}" if "/" not in name else image


def _configuration(recipe: Recipe) -> list[str]:
    variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    variables |= dict.fromkeys(TRUST, BUNDLE)
    variables |= {
        name: os.environ[name] for name in _PASSED if os.environ.get(name) and "file:" not in os.environ[name]
    }
    given = ["--cmd", "/bin/bash", "--label", f"{LABEL}={recipe.family} {recipe.suite} by debootstrap"]
    for name, value in variables.items():
        given += ["--env", f"{name}={value}"]
    return given


def _settle(folder: Path, recipe: Recipe) -> None:
    """Make a new root file system what one of an image is: no services, more sources, this machine's certificates."""
    policy = folder / "usr" / "sbin" / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    # what an image is built of can be built again
    (folder / "etc" / "dpkg" / "dpkg.cfg.d" / "lathe").write_text("force-unsafe-io\n")
    settings = folder / "etc" / "apt" / "apt.conf.d"
    (settings / "90lathe").write_text('APT::Sandbox::User "root";\nAcquire::Languages "none";\n')
    (settings / "docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    )
    (folder / "etc" / "apt" / "sources.list").write_text(_sources(recipe))
    for name in ("etc/resolv.conf", "etc/hostname"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).touch()
    bundle = folder / BUNDLE.lstrip("/")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    paths = ssl.get_default_verify_paths()
    known = (os.environ.get("SSL_CERT_FILE"), paths.cafile, "/etc/ssl/certs/ca-certificates.crt")
    shutil.copy(next(path for path in known if path and Path(path).is_file()), bundle)
    for each in (folder / "var" / "cache" / "apt" / "archives").glob("*.deb"):
        each.unlink()
    shutil.rmtree(folder / "var" / "lib" / "apt" / "lists")
    (folder / "var" / "lib" / "apt" / "lists" / "partial").mkdir(parents=True)


def _sources(recipe: Recipe) -> str:
    suite = recipe.suite
    if recipe.family == "ubuntu":
        parts = "main universe restricted multiverse"
        return "".join(f"deb {_UBUNTU} {suite}{each} {parts}\n" for each in ("", "-updates", "-security"))
    security = f"deb {_DEBIAN}-security {suite}-security main\n"
    return f"deb {_DEBIAN} {suite} main\n{security}deb {_DEBIAN} {suite}-updates main\n"


def _copy_python(source: Path, target: Path, version: str) -> None:
    """Copy a Python for `/usr/local`: without the packages that it has here, pip apart."""
    shutil.rmtree(target, ignore_errors=True)
    library = Path("lib", f"python{version}")

    def left_out(folder: str, names: list[str]) -> set[str]:
        within = Path(folder).relative_to(source)
        return {name for name in names if within == library and (name in _LEFT_OUT or name.startswith("config-"))}

    for name in ("bin", "lib", "include"):
        shutil.copytree(source / name, target / name, symlinks=True, ignore=left_out)
    packages = target / library / "site-packages"
    packages.mkdir()
    wanted = ("pip", "pip-*", "setuptools", "setuptools-*", "wheel", "wheel-*", "pkg_resources", "_distutils_hack")
    for pattern in wanted if version < "3.12" and len(version) == 4 else wanted[:2]:
        for each in (source / library / "site-packages").glob(pattern):
            shutil.copytree(each, packages / each.name, symlinks=True)
    own = (f"python{version}", "python3", "python", "pip", "pip3", f"pip{version}", "pydoc3", "idle3", "python3-config")
    shutil.rmtree(target / "bin" / "__pycache__", ignore_errors=True)
    for program in (target / "bin").iterdir():
        if program.name not in (*own, f"python{version}-config", f"pydoc{version}"):
            program.unlink()
        elif not program.is_symlink() and program.read_bytes()[:2] == b"#!":
            text = program.read_text(errors="surrogateescape")
            if str(source) in text.partition("\n")[0]:
                program.write_text(_first_line(text), errors="surrogateescape")
    for settings in (target / library).glob("_sysconfigdata*.py"):
        settings.write_text(settings.read_text().replace(str(source), "/usr/local"))


def _first_line(text: str) -> str:
    first, _, rest = text.partition("\n")
    return textwrap.dedent(f"#!/usr/local/bin/{Path(first).name}\n") + rest
