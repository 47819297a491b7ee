"""Which candidates do the same, and on which input the others differ: the part that runs the project's code.

A child of the fork server runs the tests and keeps copies of the arguments that the changed functions, and the
functions that tests call to reach them, are given. From these it makes more inputs, and runs every program on all of
them in a child each. From then on nothing may write a file, start a process or open a connection: changed arguments
may be names of files.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import time
import typing
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from lathe.mend.worker.inputs import Call, Mutator, by_hypothesis, typed
from lathe.mend.worker.outcomes import Literals, canonical
from lathe.mend.worker.recorder import Recorder
from lathe.mend.worker.rendering import Subject
from lathe.mend.worker.swap import Part
from lathe.mend.worker.trials import Program, Stopped, Trial, forbid, in_children, time_limit

if TYPE_CHECKING:
    from lathe.mend.worker.server import Server

MAX_DETAILS = 10
_LEAST_CALL_S, _MOST_CALL_S = 0.02, 0.25
_ENOUGH = 0.5  # of the inputs that others got to; who got to less is not compared
ORIGINAL, AGAIN = Program(-1, None), Program(-2, None)  # twice, to leave out what is not the same each time
Emit = Callable[[dict[str, Any]], None]


def distinguish(server: Server, order: dict[str, Any]) -> None:
    """Answer an order with one report: the inputs, and for each program which of them gave the same.

    The order has `candidates` (id, parts), `tests` (number and limit), `failing`, `inputs` (how many) and `seconds`.
    Candidates that have to be imported afresh are left out.
    """
    comparable: list[Program] = []
    for job in order["candidates"]:
        parts = [Part(part["file"], part["unit"] and tuple(part["unit"]), part["edits"]) for part in job["parts"]]
        with contextlib.suppress(Exception):
            candidate = server.programs.candidate(parts)
            if candidate.swaps and not candidate.overlay:
                comparable.append(Program(job["id"], candidate))
    answer: dict[str, Any] = {"event": "agreement", "programs": [], "calls": [], "questions": []}
    if comparable:

        def work(emit: Emit) -> None:
            emit(_Comparison(server, order, comparable).run())

        child = server.fork(order["seconds"] * 4 + 5, work)
        child.deadline = time.monotonic() + order["seconds"] * 2 + 1
        while (messages := child.wait()) is not None:
            for message in messages:
                if "programs" in message:
                    answer.update(message)
        child.close()
    server.report(answer)


class _Comparison:
    """The work of the child."""

    def __init__(self, server: Server, order: dict[str, Any], candidates: list[Program]) -> None:
        self._server = server
        self._order = order
        self._until = time.monotonic() + order["seconds"]
        self._candidates = candidates
        self._live: dict[CodeType, list[FunctionType]] = {}
        for function in server.programs.functions():
            self._live.setdefault(function.__code__, []).append(function)
        changed = {function.__code__ for one in candidates if one.candidate for function, _ in one.candidate.swaps}
        self._recorder = Recorder(server.root, server.test_files, changed)

    def run(self) -> dict[str, Any]:
        """Return the report."""
        self._record()
        functions, calls = self._inputs()
        sys.addaudithook(forbid)
        subjects = [Subject(function) for function in functions]
        limit = min(_MOST_CALL_S, _LEAST_CALL_S + 10 * self._recorder.slowest)
        trial = Trial(subjects, calls, limit, self._until)
        every = [ORIGINAL, AGAIN, *self._candidates]
        tables = in_children(every, trial, self._server.jobs)
        most = max(map(len, tables))
        reached = [place for place, table in enumerate(tables) if place < 2 or len(table) >= _ENOUGH * most]
        self._candidates = [every[place] for place in reached[2:]]
        columns = [0, *reached[2:]]
        kept, rows = [], []
        for number in range(len(calls)):
            digests = [tables[place].get(number, {}).get("digest", "") for place in (1, *columns)]
            if "" not in digests and "forbidden" not in digests and digests[0] == digests[1]:
                kept.append(number)
                rows.append(digests[1:])
        return {
            "programs": [every[place].number for place in columns],
            "calls": [
                {
                    "origin": calls[at].origin,
                    "usual": calls[at].usual,
                    "good": tables[0][at]["good"],
                    "same": [digests.index(digest) for digest in digests],
                    "bad": [not tables[place][at]["good"] for place in columns],
                }
                for at, digests in zip(kept, rows, strict=True)
            ],
            "questions": self._details(trial, kept, rows),
        }

    def _record(self) -> None:
        """Run the tests and let the recorder look on."""
        failing = set(self._order["failing"])
        share = time.monotonic() + self._order["seconds"] * 0.4
        for number, limit in self._order["tests"]:
            if time.monotonic() > share:
                return
            self._recorder.start("failing" if number in failing else "passing")
            with time_limit(limit), contextlib.suppress(BaseException):
                self._server.protocol.run(self._server.items[number], None)
            self._recorder.stop()

    def _inputs(self) -> tuple[list[FunctionType], list[Call]]:
        """Return the functions to call, and the calls: those observed, those changed from them, those typed."""
        functions: list[FunctionType] = []
        calls: list[Call] = []
        every: list[list[Call]] = []
        mutator = Mutator()
        for code, seen in self._recorder.found().items():
            live = self._live.get(code, [])
            if len(live) != 1:
                continue
            number = len(functions)
            functions.append(live[0])
            observed = [Call(number, arguments[0], arguments[1], origin, True, 0) for arguments, origin in seen]
            for call in observed:
                for place, value in [*enumerate(call.positional), *call.keywords.items()]:
                    mutator.observe(value, (number, place))
            every.append(observed)
            calls += observed
        known = {(call.function, canonical((call.positional, call.keywords))) for call in calls}
        share = self._until - self._order["seconds"] * 0.4
        for _, call in zip(range(self._order["inputs"] * 4), _changed(mutator, every), strict=False):
            if len(calls) >= self._order["inputs"] or time.monotonic() > share:
                break
            key = (call.function, canonical((call.positional, call.keywords)))
            if key not in known:
                known.add(key)
                calls.append(call)
        for number, function in enumerate(functions):
            calls += self._typed(number, function)
        return functions, copy.deepcopy(calls)

    def _typed(self, number: int, function: FunctionType) -> list[Call]:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        if not names or code.co_kwonlyargcount or names[0] in ("self", "cls"):
            return []
        with contextlib.suppress(Exception):
            hints = typing.get_type_hints(function)
            if all(name in hints for name in names):
                parameters = [(name, hints[name]) for name in names]
                ready = "hypothesis" in sys.modules or self._order["seconds"] >= 2
                if ready:
                    with contextlib.suppress(ImportError):
                        return by_hypothesis(number, parameters, 40)
                return typed(number, parameters, 40)
        return []

    def _details(self, trial: Trial, kept: list[int], rows: list[list[str]]) -> list[dict[str, Any]]:
        """Return the calls that tell programs apart best, each kind of difference once, with what each program did."""
        calls = trial.calls
        ranked = sorted(
            (not calls[at].usual, calls[at].origin == "typed", len(canonical(calls[at][1:3])), place)
            for place, at in enumerate(kept)
            if len(set(rows[place][1:])) > 1
        )
        chosen: dict[tuple[int, ...], int] = {}
        for *_, place in ranked:
            shape = tuple(rows[place].index(digest) for digest in rows[place][1:])
            if len(chosen) < MAX_DETAILS:
                chosen.setdefault(shape, place)
        questions = []
        for place in chosen.values():
            call = calls[kept[place]]
            literals = Literals()
            written: dict[str, Any] = {"text": "", "head": None}
            with contextlib.suppress(Stopped), time_limit(0.3):
                written = trial.subjects[call.function].write(call, literals)
            questions.append({"number": kept[place], **written, "modules": sorted(literals.modules), "outcomes": []})
        wanted = [calls[question["number"]] for question in questions]
        until = max(self._until, time.monotonic() + 0.3)
        shown = Trial(trial.subjects, wanted, trial.limit, until, details=True)
        every = [ORIGINAL, *self._candidates]
        tables = in_children(every, shown, self._server.jobs) if wanted else []
        stable = []
        for number, (place, question) in enumerate(zip(chosen.values(), questions, strict=True)):
            outcomes = [table.get(number) for table in tables]
            if [one["digest"] if one else "" for one in outcomes] == rows[place]:
                stable.append({**question, "outcomes": outcomes})
        return stable


def _changed(mutator: Mutator, every: list[list[Call]]) -> Iterator[Call]:
    """Yield changed calls, of each function in turn."""
    every = [observed for observed in every if observed]
    while every:
        for observed in every:
            with contextlib.suppress(Exception):
                call = mutator.call(observed)
                if call is not None:
                    yield call
                    continue
            yield observed[0]  # known already: it counts as an attempt
