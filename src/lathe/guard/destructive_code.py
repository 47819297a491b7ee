"""Code that is given to an interpreter on the command line or on standard input, and what it deletes or starts.

Python is parsed; of the others the calls are found that delete files or start a shell, with the texts given to them.
"""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from typing import NamedTuple

from lathe.guard.danger import Danger, Site
from lathe.guard.shell_words import UNKNOWN

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*|ipython")
_INLINE = {
    "perl": ("-e", "-E", "-ne", "-pe", "-nE", "-le", "-lne"),
    "ruby": ("-e", "-ne"),
    "node": ("-e", "--eval", "-p", "--print", "-pe"),
    "nodejs": ("-e", "--eval", "-p"),
    "bun": ("-e", "--eval"),
    "deno": ("eval",),
    "php": ("-r",),
    "lua": ("-e",),
    "Rscript": ("-e",),
    "osascript": ("-e",),
    "tclsh": (),
}
_AWKS = frozenset({"awk", "gawk", "mawk", "nawk"})
_EDITORS = frozenset({"vim", "vi", "nvim", "ex", "ed", "emacs"})
_DELETES = frozenset({"rmtree", "remove", "unlink", "rmdir", "removedirs", "truncate", "rm", "rm_rf", "move"})
_STARTS = frozenset(
    {"system", "popen", "run", "call", "check_call", "check_output", "Popen", "getoutput", "sh", "execvp"}
)
_MODULES = frozenset({"os", "shutil", "subprocess", "pathlib", "Path", "sh", "commands"})
_OTHER_DELETES = re.compile(
    r"\b(?:rmSync|rmdirSync|unlinkSync|rmdir|unlink|rmtree|remove_tree|rm_rf|rm_r|remove_entry|remove_dir|removeSync"
    r"|emptyDirSync|rimraf|file\.remove|delete_all|Deno\.remove|Deno\.removeSync|fs\.rm|fs\.promises\.rm|os\.remove|fs\.truncateSync)\b"
    r"\s*\(?\s*(?:glob\s*\(?\s*|Dir(?:\.glob\(|\[)\s*)?(?P<target>\"[^\"]*\"|'[^']*'|`[^`]*`)?"
)
_OTHER_STARTS = re.compile(
    r"\b(?:exec|execSync|execFileSync|spawnSync|system|popen|shell_exec|passthru|qx|os\.execute|io\.popen|proc_open"
    r"|do shell script)\b\s*\(?\s*(?P<script>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`|\{[^}]*\}|/[^/]*/)"
)
_BACKTICKS = re.compile(r"`([^`]*)`")
_AWK_SYSTEM = re.compile(
    r"system\s*\(\s*\"((?:[^\"\\]|\\.)*)\"|\"((?:[^\"\\]|\\.)*)\"\s*\|\s*getline|\|\s*\"((?:[^\"\\]|\\.)*)\""
)
_EDITOR_SHELL = re.compile(r"(?:^|[:|])\s*(?:silent\s+)?!(.*)", re.DOTALL)


class Code(NamedTuple):
    """A text for an interpreter."""

    language: str
    text: str


def code_of(words: tuple[str, ...], given: str | None) -> list[Code]:
    """Return the code on a command line, or on its standard input where it would be read from there."""
    name = words[0]
    if _PYTHON.fullmatch(name):
        at = next((at for at, word in enumerate(words[1:], 1) if re.fullmatch(r"-[bBdEhiIOqsSuvVx]*c", word)), 0)
        if at:
            return [Code("python", text) for text in words[at + 1 : at + 2]]
        alone = all(word.startswith("-") for word in words[1:])
        return [Code("python", given)] if alone and given else []
    if name in _INLINE:
        texts = [words[at + 1] for at, word in enumerate(words[:-1]) if at and word in _INLINE[name]]
        if not texts and given and all(word.startswith("-") for word in words[1:]):
            texts = [given]
        return [Code(name, text) for text in texts]
    return []


def scripts_in(words: tuple[str, ...], given: str | None) -> list[str]:
    """Return the shell texts that code on the command line would start."""
    name = words[0]
    if name in _AWKS:
        return [next(filter(None, found)) for word in words[1:] for found in _AWK_SYSTEM.findall(word) if any(found)]
    if name in _EDITORS:
        return [found[1] for word in words[1:] if (found := _EDITOR_SHELL.search(word.removeprefix("+")))]
    scripts: list[str] = []
    for code in code_of(words, given):
        scripts += _python_scripts(code.text) if code.language == "python" else _other_scripts(code)
    return scripts


def read(words: tuple[str, ...], site: Site) -> list[Danger]:
    """Return what code on the command line deletes by itself."""
    found: list[Danger] = []
    for code in code_of(words, site.run.given.text):
        targets = _python_targets(code.text) if code.language == "python" else _other_targets(code.text)
        for target in targets:
            where = site.reach(target)
            if where != "scratch":
                found.append(Danger("deletes or empties", "what can't be told" if target == UNKNOWN else target, where))
    return found


def python_tree(text: str) -> ast.Module:
    """Return the tree of a program of Python, an empty one where it is none; what Python would warn of is not said."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def called_name(node: ast.Call) -> tuple[str, ast.expr | None]:
    """Return the name of what is called, and what it is a member of."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr, node.func.value
    return (node.func.id, None) if isinstance(node.func, ast.Name) else ("", None)


def _python_scripts(text: str) -> list[str]:
    scripts: list[str] = []
    for node in ast.walk(python_tree(text)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name, _ = called_name(node)
        if name in _STARTS:
            first = node.args[0]
            if isinstance(first, ast.List | ast.Tuple):
                scripts.append(shlex.join(text_of(part) for part in first.elts))
            elif (script := text_of(first)) != UNKNOWN:
                scripts.append(script)
        elif name in ("exec", "eval", "__import__") and (inner := text_of(node.args[0])) != UNKNOWN:
            scripts += _python_scripts(inner)
    return scripts


def _python_targets(text: str) -> list[str]:
    tree = python_tree(text)
    names = assigned_names(tree)
    targets: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, owner = called_name(node)
        if name in _DELETES:
            module = isinstance(owner, ast.Name) and owner.id in _MODULES - {"Path"}
            if owner is None or module:
                if node.args:
                    targets.append(text_of(node.args[0], names))
            elif name in ("unlink", "rmdir", "rmtree") or (name == "remove" and not node.args):
                targets.append(text_of(owner, names))
        elif name in ("exec", "eval") and node.args:
            targets += _python_targets(text_of(node.args[0], names))
    return targets


def assigned_names(tree: ast.AST) -> dict[str, str]:
    """Return what names stand for: the last text given to each, or any that a loop over a folder yields."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = text_of(node.value, names)
        elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
            names[node.target.id] = _listed(node.iter, names)
    return names


def _listed(node: ast.expr, names: dict[str, str]) -> str:
    """Return a pattern for what a loop goes over: `glob(P)`, `Path(D).rglob(P)`, `os.listdir(D)`."""
    if isinstance(node, ast.Call):
        name, owner = called_name(node)
        if name in ("glob", "iglob") and node.args and not isinstance(owner, ast.Call):
            return text_of(node.args[0], names)
        if name in ("glob", "rglob", "iterdir") and owner is not None:
            return f"{text_of(owner, names)}/*"
        if name in ("listdir", "scandir", "walk"):
            return f"{text_of(node.args[0], names)}/*" if node.args else "./*"
    if isinstance(node, ast.List | ast.Tuple) and node.elts:
        return text_of(node.elts[0], names)
    return UNKNOWN


def text_of(node: ast.expr, names: dict[str, str] | None = None) -> str:
    """Return the path or text that an expression stands for, `UNKNOWN` where it can't be told."""
    names = names or {}
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return names.get(name, UNKNOWN)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return f"{text_of(left, names)}/{text_of(right, names)}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left, names) + text_of(right, names)
        case ast.JoinedStr(values=values):
            return "".join(text_of(v.value if isinstance(v, ast.FormattedValue) else v, names) for v in values)
        case ast.Call():
            return _called_text(node, names)
        case _:
            return UNKNOWN


def _called_text(node: ast.Call, names: dict[str, str]) -> str:
    name, owner = called_name(node)
    first = text_of(node.args[0], names) if node.args else ""
    match name:
        case "expanduser":
            return first or (text_of(owner, names) if owner is not None else UNKNOWN)
        case "home":
            return "~"
        case "getcwd" | "cwd":
            return "."
        case "mkdtemp" | "mkstemp" | "gettempdir":
            return f"/tmp/{UNKNOWN}x"
        case "Path" | "str" | "abspath" | "realpath" | "resolve":
            joined = "/".join(text_of(part, names) for part in node.args) if name == "Path" else first
            return joined or (text_of(owner, names) if owner is not None and name == "resolve" else ".")
        case "join" if node.args and isinstance(owner, ast.Attribute):
            return "/".join(text_of(part, names) for part in node.args)
        case "b64decode" | "decode" | "fromhex":
            return _decoded(node, names)
        case _:
            return UNKNOWN


def _decoded(node: ast.Call, names: dict[str, str]) -> str:
    import base64
    import binascii

    inner = node
    while (
        isinstance(inner.func, ast.Attribute) and inner.func.attr == "decode" and isinstance(inner.func.value, ast.Call)
    ):
        inner = inner.func.value
    name, _ = called_name(inner)
    first = inner.args[0] if inner.args else None
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str | bytes):
        return UNKNOWN
    raw = first.value.encode() if isinstance(first.value, str) else first.value
    try:
        return (base64.b64decode(raw) if name == "b64decode" else binascii.unhexlify(raw)).decode()
    except ValueError:
        return UNKNOWN


def _other_scripts(code: Code) -> list[str]:
    scripts = [found["script"][1:-1] for found in _OTHER_STARTS.finditer(code.text)]
    if code.language in ("perl", "ruby", "php"):
        scripts += _BACKTICKS.findall(code.text)
    return scripts


def _other_targets(text: str) -> list[str]:
    return [found["target"][1:-1] if found["target"] else UNKNOWN for found in _OTHER_DELETES.finditer(text)]
