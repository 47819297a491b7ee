"""Comparing two versions of one function on generated inputs, in a process of its own.

usage: differential.py NAME ONE.py OTHER.py TESTDATA.json|- SEED COUNT, in the folder of the suite's `node` module

Inputs are made by changing those of the suite, as far as they keep what all inputs of the suite have in common: types,
sorted lists, distinct elements, no negative numbers, numbers below a length or above all elements. Where the first
version raises an error or takes too long, nothing is expected of the second.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

LIMIT_S = 0.25
LONGEST = 2000


class TooLong(BaseException):
    pass


def main() -> int:
    name, one, other, data, seed, count = sys.argv[1:7]
    sys.path.insert(0, str(Path.cwd()))
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    signal.signal(signal.SIGPROF, _too_long)
    functions = [load(name, Path(one)), load(name, Path(other))]
    choose = random.Random(int(seed))
    make: Iterator[tuple[Any, ...]]
    if name in GRAPHS:
        make = (GRAPHS[name](choose) for _ in range(int(count)))
    else:
        make = changed(cases(Path(data)), choose, int(count))
    compared, different = 0, None
    for arguments in make:
        expected = outcome(functions[0], arguments, name)
        if expected[0] != "value":
            continue
        compared += 1
        got = outcome(functions[1], arguments, name, 10 * LIMIT_S)
        if not alike(expected, got):
            different = [repr(arguments)[:300], repr(expected[1])[:200], repr(got)[:200]]
            break
    print(json.dumps({"compared": compared, "different": different}))
    return 0


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLong


def load(name: str, path: Path) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def cases(path: Path) -> list[list[Any]]:
    lines = [json.loads(line)[0] for line in path.read_text().splitlines() if line.strip()]
    return [line if isinstance(line, list) else [line] for line in lines]


def outcome(
    function: Callable[..., Any], arguments: tuple[Any, ...], name: str, limit: float = LIMIT_S
) -> tuple[str, Any]:
    """("value", what it returned), ("error", its type) or ("slow", None)."""
    arguments = copy.deepcopy(arguments)
    signal.setitimer(signal.ITIMER_PROF, limit, LIMIT_S)
    try:
        result = function(*arguments)
        if hasattr(result, "__next__"):
            result = [item for item, _ in zip(result, range(LONGEST), strict=False)]
        answer = ("value", plain(result, arguments, name))
        signal.setitimer(signal.ITIMER_PROF, 0)
    except TooLong:
        answer = ("slow", None)
    except Exception as error:
        answer = ("error", type(error).__name__)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return answer


def plain(result: Any, arguments: tuple[Any, ...], name: str) -> Any:
    """A result without identities: nodes as their values, a linked list as a list, a reachability as yes or no."""
    if name in ("breadth_first_search", "depth_first_search", "detect_cycle"):
        return bool(result)
    if name == "reverse_linked_list":
        values = []
        while result is not None and len(values) < LONGEST:
            values.append(result.value)
            result = result.successor
        return values
    if name == "topological_ordering":
        return [node.value for node in result]
    return result


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        if not (isinstance(one, (int, float)) and isinstance(other, (int, float))):
            return False
        return one == other or abs(one - other) <= 1e-6 * max(abs(one), abs(other))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return bool(one == other)


# --- changed inputs of the suite

Property = Callable[[list[Any]], bool]


def changed(known: list[list[Any]], choose: random.Random, count: int) -> Iterator[tuple[Any, ...]]:
    yield from map(tuple, known)
    kept = [rule for rule in properties(len(known[0])) if all(len(one) == len(known[0]) for one in known)]
    kept = [rule for rule in kept if all(_holds(rule, one) for one in known)]
    pool = [value for one in known for value in atoms(one)]
    made = tries = 0
    small = [one for one in known if len(json.dumps(one)) < 400] or known
    while made < count and tries < 60 * count:
        tries += 1
        new = copy.deepcopy(choose.choice(small))
        for _ in range(choose.choice((1, 1, 2, 3, 6))):
            at = choose.randrange(len(new)) if new else 0
            if new:
                new[at] = mutated(new[at], choose, pool)
        if choose.random() < 0.5:
            new = [sorted(part) if _is_sortable(part) else part for part in new]
        if all(_holds(rule, new) for rule in kept):
            made += 1
            yield tuple(new)


def _is_sortable(part: Any) -> bool:
    return isinstance(part, list) and len({type(item) for item in part}) == 1 and isinstance(part[0], (int, float, str))


def _holds(rule: Property, arguments: list[Any]) -> bool:
    try:
        return rule(arguments)
    except (TypeError, IndexError, ValueError):
        return False


def properties(count: int) -> Iterator[Property]:
    """What may hold of all inputs: of each argument, and of each two."""
    for i in range(count):
        yield from (lambda a, i=i, rule=rule: rule(a[i]) for rule in _OF_ONE)
        for j in range(count):
            if i != j:
                yield from (lambda a, i=i, j=j, rule=rule: rule(a[i], a[j]) for rule in _OF_TWO)


_OF_ONE: list[Callable[[Any], bool]] = [
    lambda v: isinstance(v, int) and not isinstance(v, bool),
    lambda v: isinstance(v, (int, float)),
    lambda v: isinstance(v, str),
    lambda v: isinstance(v, list),
    lambda v: v >= 0,
    lambda v: v > 0,
    lambda v: v > 1,
    lambda v: v < 1,
    lambda v: v <= 40,
    lambda v: len(v) > 0,
    lambda v: len(v) > 1,
    lambda v: len(v) <= 60,
    lambda v: v == sorted(v),
    lambda v: len({json.dumps(item) for item in v}) == len(v),
    lambda v: all(isinstance(item, int) for item in v),
    lambda v: all(isinstance(item, str) for item in v),
    lambda v: all(isinstance(item, (int, float)) for item in v),
    lambda v: all(isinstance(item, (float, str)) for item in v),
    lambda v: all(isinstance(item, list) for item in v),
    lambda v: all(item >= 0 for item in v),
    lambda v: all(item > 0 for item in v),
    lambda v: all(item <= 9 for item in v),
    lambda v: all(len(item) == len(v[0]) for item in v),
    lambda v: all(number >= 0 for item in v for number in item),
    lambda v: all(number > 0 for item in v for number in item),
    lambda v: set(v) <= set("()"),
]
_OF_TWO: list[Callable[[Any, Any], bool]] = [
    lambda v, w: v < len(w),
    lambda v, w: v <= len(w),
    lambda v, w: len(v) == len(w),
    lambda v, w: len(v) <= len(w),
    lambda v, w: all(item < w for item in v),
    lambda v, w: v <= w,
    lambda v, w: v < w,
    lambda v, w: v != w,
    lambda v, w: _displaced(w) <= v,
]


def _displaced(values: list[Any]) -> int:
    """How far an element is from where it stands when sorted."""
    order = sorted(range(len(values)), key=values.__getitem__)
    return max((abs(place - at) for place, at in enumerate(order)), default=0)


def atoms(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for inner in value:
            yield from atoms(inner)
    else:
        yield value


def mutated(value: Any, choose: random.Random, pool: list[Any]) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return choose.choice((value + 1, value - 1, -value, 0, 1, value * 2, choose.randrange(30), value // 2))
    if isinstance(value, float):
        return choose.choice((value + 1, value / 2, -value, value * 3, round(choose.uniform(0, 20), 1)))
    if isinstance(value, str):
        letters = value or "ab"
        at = choose.randrange(len(value) + 1)
        return choose.choice(
            (
                value[:at] + choose.choice(letters) + value[at:],
                value[:at] + value[at + 1 :],
                value[::-1],
                value[:at],
                value[at:],
                value[:at] + choose.choice([text for text in pool if isinstance(text, str)] or [""])[:3] + value[at:],
            )
        )
    if isinstance(value, list):
        return _mutated_list(list(value), choose, pool)
    return value


def _mutated_list(items: list[Any], choose: random.Random, pool: list[Any]) -> list[Any]:
    at = choose.randrange(len(items) + 1)
    how = choose.randrange(6)
    if how == 0 and items:
        del items[min(at, len(items) - 1)]
    elif how == 1:
        like = copy.deepcopy(choose.choice(items)) if items else choose.choice(pool or [1])
        items.insert(at, mutated(like, choose, pool))
    elif how == 2 and items:
        at = min(at, len(items) - 1)
        items[at] = mutated(items[at], choose, pool)
    elif how == 3:
        choose.shuffle(items)
    elif how == 4 and items:
        items.insert(at, copy.deepcopy(choose.choice(items)))
    else:
        items = items[:at]
    return items


# --- graphs and linked lists, of the suite's own Node class


def _nodes(choose: random.Random, most: int) -> list[Any]:
    from node import Node

    nodes = [Node(str(number)) for number in range(choose.randint(1, most))]
    for node in nodes:
        node.successors = [other for other in nodes if choose.random() < 1.2 / len(nodes)]
    return nodes


def _two_nodes(choose: random.Random) -> tuple[Any, Any]:
    nodes = _nodes(choose, 8)
    return choose.choice(nodes), choose.choice(nodes)


def _list(choose: random.Random, *, cycle: bool) -> tuple[Any]:
    from node import Node

    nodes = [Node(number) for number in range(choose.randint(1, 9))]
    for one, other in itertools.pairwise(nodes):
        one.successor = other
    if cycle and choose.random() < 0.5:
        nodes[-1].successor = choose.choice(nodes)
    return (nodes[0],)


def _linked(choose: random.Random) -> tuple[Any]:
    return (None,) if choose.random() < 0.1 else _list(choose, cycle=False)


def _undirected(choose: random.Random) -> tuple[dict[tuple[int, int], int]]:
    count = choose.randint(2, 7)
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    chosen = {(number - 1, number) for number in range(1, count)} | {pair for pair in pairs if choose.random() < 0.5}
    weights = choose.sample(range(1, 100), len(chosen))
    return (dict(zip(sorted(chosen), weights, strict=True)),)


def _length_by_node(choose: random.Random) -> tuple[Any, Any, Any]:
    nodes = _nodes(choose, 7)
    lengths = {(one, other): choose.randint(1, 12) for one in nodes for other in one.successors}
    return lengths, choose.choice(nodes), choose.choice(nodes)


def _length_by_number(choose: random.Random) -> tuple[Any, Any]:
    count = choose.randint(1, 6)
    edges = {(a, b): choose.randint(1, 12) for a in range(count) for b in range(count) if choose.random() < 0.5}
    return count, edges


def _weight_by_name(choose: random.Random) -> tuple[Any, Any]:
    names = "ABCDEF"[: choose.randint(2, 6)]
    edges = {(a, b): choose.randint(-2, 12) for at, a in enumerate(names) for b in names[at + 1 :]}
    edges |= {(b, a): choose.randint(3, 12) for a, b in list(edges) if choose.random() < 0.3}
    return names[0], edges


def _ordered(choose: random.Random) -> tuple[Any]:
    from node import Node

    nodes = [Node(number) for number in range(choose.randint(1, 8))]
    for node in nodes:
        node.incoming_nodes, node.outgoing_nodes = [], []
    for at, one in enumerate(nodes):
        for other in nodes[at + 1 :]:
            if choose.random() < 0.35:
                one.outgoing_nodes.append(other)
                other.incoming_nodes.append(one)
    choose.shuffle(nodes)
    return (nodes,)


GRAPHS: dict[str, Callable[[random.Random], tuple[Any, ...]]] = {
    "breadth_first_search": _two_nodes,
    "depth_first_search": _two_nodes,
    "detect_cycle": lambda choose: _list(choose, cycle=True),
    "minimum_spanning_tree": _undirected,
    "reverse_linked_list": _linked,
    "shortest_path_length": _length_by_node,
    "shortest_path_lengths": _length_by_number,
    "shortest_paths": _weight_by_name,
    "topological_ordering": _ordered,
}

if __name__ == "__main__":
    sys.exit(main())
