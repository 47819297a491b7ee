"""Where a name is defined in a project, and which of its other occurrences mean that definition.

jedi (static inference over the whole project) says what an occurrence refers to; parso gives every occurrence, those
inside f-strings included.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import msgspec

from lathe.mend.chores.commands import finish
from lathe.mend.chores.trial import Trial

Kind: TypeAlias = Literal["function", "method", "class", "variable", "attribute", "parameter"]
Place: TypeAlias = tuple[str, int, int]
"""Path, line from 1, column from 0 in characters."""
Leaf: TypeAlias = Any
"""A name token of parso's, which has no types of its own."""

_COMMON = {name for kind in (str, bytes, list, dict, set, tuple, int, float, object, type) for name in dir(kind)}
_IMPORTS = ("import_name", "import_from", "import_as_name", "import_as_names", "dotted_as_name", "dotted_name")


class Definition(msgspec.Struct, frozen=True):
    """A place that binds a name. `qualname` begins with the module; `owner` is the class or function around it."""

    place: Place
    kind: Kind
    qualname: str
    owner: str


class Names:
    """The names of a trial's files."""

    def __init__(self, trial: Trial) -> None:
        self._jedi: Any = import_module("jedi")
        self._jedi.settings.cache_directory = str(trial.workspace.temporary / "jedi")
        self._trial = trial
        self._modules: dict[str, Any] = {}
        self._scripts: dict[str, Any] = {}
        self._classes: dict[Place, str] = {}
        self._roots = _import_roots(trial)
        extra = [str(trial.root / root) for root in self._roots] + _site_packages(trial)
        self._project = self._jedi.Project(
            trial.root, added_sys_path=extra, smart_sys_path=False, sys_path=_own_library()
        )
        self._environment = self._jedi.InterpreterEnvironment()

    def module_name(self, path: str) -> str:
        """Return the dotted name by which a file is imported."""
        best = max((root for root in self._roots if _is_below(path, root)), key=len, default="")
        parts = list(PurePosixPath(path).relative_to(best or ".").with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def occurrences(self, name: str) -> Iterator[tuple[str, Leaf]]:
        """Yield each token that is `name`, with the path of its file."""
        for path in self._trial.paths():
            source = self._trial.read(path)
            if source is not None and name in source.text:
                for leaf in self._module(path).get_used_names().get(name, ()):
                    yield path, leaf

    def definitions(self, name: str) -> list[Definition]:
        """Return the places that bind `name` other than by import."""
        found = []
        for path, leaf in self.occurrences(name):
            definition = self._definition(path, leaf)
            if definition is not None:
                found.append(definition)
        return found

    def meant(self, path: str, leaf: Leaf) -> set[Place]:
        """Return the definitions that an occurrence refers to; empty where that cannot be inferred."""
        return self._goto(path, *leaf.start_pos)

    def classes_above(self, place: Place) -> set[Place]:
        """Return the bases of a class that this project defines."""
        known = {name.rpartition(".")[2] for name in self.classes().values()}
        return {base for leaf in self._bases(place) if leaf.value in known for base in self.meant(place[0], leaf)}

    def library_names(self, place: Place) -> set[str]:
        """Return the names that the bases of a class have which are not this project's."""
        found: set[str] = set()
        for leaf in self._bases(place):
            for name in self._script(place[0]).goto(*leaf.start_pos, follow_imports=True):
                if name.type == "class" and self._place(name) is None:
                    found |= {inner.name for inner in name.defined_names()}
        return found

    def _bases(self, place: Place) -> Iterable[Leaf]:
        path, line, column = place
        node = self._module(path).get_leaf_for_position((line, column)).parent
        return _last_names(node.get_super_arglist() if node.type == "classdef" else None)

    def callee(self, path: str, leaf: Leaf) -> set[Place]:
        """Return what is called where `leaf` is the name of a keyword argument; empty for other places."""
        argument = leaf.parent
        if argument is None or argument.type != "argument" or argument.children[0] is not leaf:
            return set()
        trailer = argument.parent
        while trailer is not None and trailer.type != "trailer":
            trailer = trailer.parent
        before = trailer.get_previous_sibling() if trailer is not None else None
        last = before.get_last_leaf() if before is not None else None
        return self._goto(path, *last.start_pos) if last is not None and last.type == "name" else set()

    def classes(self) -> dict[Place, str]:
        """Return every class of the project, by the place of its name."""
        if not self._classes:
            for path in self._trial.paths():
                if self._trial.read(path) is None:
                    continue
                for leaves in self._module(path).get_used_names().values():
                    for leaf in leaves:
                        if leaf.parent.type == "classdef" and leaf.parent.name is leaf:
                            scopes = [scope.name.value for scope in _scopes(leaf)]
                            name = ".".join([self.module_name(path), *scopes])
                            self._classes[(path, *leaf.start_pos)] = name
        return self._classes

    # --- one file

    def _module(self, path: str) -> Any:
        if path not in self._modules:
            parso: Any = import_module("parso")
            source = self._trial.read(path)
            self._modules[path] = parso.parse(source.text if source is not None else "")
        return self._modules[path]

    def _script(self, path: str) -> Any:
        if path not in self._scripts:
            source = self._trial.read(path)
            assert source is not None
            where = self._trial.root / path
            self._scripts[path] = self._jedi.Script(
                source.text, path=where, project=self._project, environment=self._environment
            )
        return self._scripts[path]

    def _goto(self, path: str, line: int, column: int) -> set[Place]:
        try:
            names = self._script(path).goto(line, column, follow_imports=True)
        except Exception:  # inference over arbitrary code fails in many ways: then it is not known
            return set()
        return {place if place is not None else ("", 0, 0) for place in map(self._place, names)}

    def _place(self, name: Any) -> Place | None:
        """Return where a name of jedi's is, None for one outside the project."""
        path = name.module_path
        if path is None or name.line is None:
            return None
        path = Path(path)
        if not path.is_relative_to(self._trial.root):
            return None
        return str(path.relative_to(self._trial.root)), name.line, name.column

    def _definition(self, path: str, leaf: Leaf) -> Definition | None:
        if not leaf.is_definition():
            return None
        node = leaf.get_definition()
        if node is None or node.type in _IMPORTS or _is_keyword(leaf):
            return None
        place = (path, *leaf.start_pos)
        scopes = _scopes(leaf)
        module = self.module_name(path)
        if node.type == "param":
            function = ".".join([module, *(scope.name.value for scope in scopes)])
            return Definition(place, "parameter", f"{function}.{leaf.value}", function)
        if _is_attribute(leaf):
            return _self_attribute(place, module, leaf, scopes)
        outer = [scope for scope in scopes if scope is not node]
        owner = ".".join([module, *(scope.name.value for scope in outer)])
        in_class = bool(outer) and outer[-1].type == "classdef"
        kind: Kind = "attribute" if in_class else "variable"
        if node.type == "classdef":
            kind = "class"
        elif node.type == "funcdef":
            kind = "method" if in_class else "function"
        return Definition(place, kind, f"{owner}.{leaf.value}", owner)


def is_common(name: str) -> bool:
    """Return whether objects of the language itself have an attribute of this name."""
    return name in _COMMON


def is_builtin(name: str) -> bool:
    """Return whether the language binds this name everywhere."""
    return hasattr(builtins, name)


def is_attribute(leaf: Leaf) -> bool:
    """Return whether an occurrence stands after a dot, in an expression."""
    return _is_attribute(leaf)


def _is_attribute(leaf: Leaf) -> bool:
    before = leaf.get_previous_sibling()
    return leaf.parent is not None and leaf.parent.type == "trailer" and before is not None and before.value == "."


def _is_keyword(leaf: Leaf) -> bool:
    return leaf.parent is not None and leaf.parent.type == "argument" and leaf.parent.children[0] is leaf


def _scopes(leaf: Leaf) -> list[Any]:
    """Return the classes and functions around an occurrence, outermost first."""
    found = []
    node = leaf.parent
    while node is not None:
        if node.type in ("classdef", "funcdef"):
            found.append(node)
        node = node.parent
    return found[::-1]


def _self_attribute(place: Place, module: str, leaf: Leaf, scopes: list[Any]) -> Definition | None:
    """Return the definition that `self.name = …` in a method is; None for the attribute of anything else."""
    first = leaf.parent.get_previous_sibling()
    inside = len(scopes) >= 2 and scopes[-1].type == "funcdef" and scopes[-2].type == "classdef"
    if not inside or first is None or first.type != "name" or not scopes[-1].get_params():
        return None
    if first.value != scopes[-1].get_params()[0].name.value:
        return None
    owner = ".".join([module, *(scope.name.value for scope in scopes[:-1])])
    return Definition(place, "attribute", f"{owner}.{leaf.value}", owner)


def _last_names(arguments: Any) -> Iterator[Leaf]:
    """Yield the last name of each positional argument."""
    if arguments is None:
        return
    parts = arguments.children if arguments.type == "arglist" else [arguments]
    for part in parts:
        if part.type in ("operator", "argument"):
            continue
        leaf = part.get_first_leaf()
        names = [leaf]
        while leaf is not part.get_last_leaf():
            leaf = leaf.get_next_leaf()
            if leaf.value == "[":
                break  # Generic[T]: the class is what is subscripted
            names.append(leaf)
        last = [name for name in names if name.type == "name"]
        if last:
            yield last[-1]


def _import_roots(trial: Trial) -> list[str]:
    """Return the folders that top-level modules lie in: those of packages' parents, and of files outside packages."""
    roots = set()
    for path in trial.paths():
        folder = PurePosixPath(path).parent
        while (trial.root / folder / "__init__.py").exists() and folder != PurePosixPath():
            folder = folder.parent
        roots.add(str(folder))
    inside = str(trial.workspace.inside)
    return sorted(roots | {inside})


def _is_below(path: str, root: str) -> bool:
    return root == "." or path.startswith(root + "/")


def _own_library() -> list[str]:
    import sysconfig

    return [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]


def _site_packages(trial: Trial) -> list[str]:
    """Return where the project's interpreter finds installed packages."""
    if not trial.python:
        return []
    question = "import sys; print(*[entry for entry in sys.path if entry.endswith('-packages')], sep='\\n')"
    done = finish([trial.python, "-I", "-c", question], trial.workspace.temporary, seconds=20)
    return done.out.split("\n")[:-1] if done.code == 0 else []
