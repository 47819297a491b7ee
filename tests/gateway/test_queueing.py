"""Turns: projects one after the other, idle work last, and no turn is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from lathe.gateway.queueing import QueueTimeout, Turns


async def take(turns: Turns, project: str, order: list[str], *, idle: bool = False) -> None:
    async with turns.turn(project, 5, idle=idle):
        order.append(project)
        await asyncio.sleep(0)


async def test_projects_take_turns_and_idle_work_comes_last() -> None:
    turns, order = Turns(1), []
    async with turns.turn("first", 5):
        tasks = [asyncio.create_task(take(turns, "batch", order, idle=True)) for _ in range(2)]
        tasks += [asyncio.create_task(take(turns, "many", order)) for _ in range(4)]
        tasks += [asyncio.create_task(take(turns, "few", order)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert (turns.running, turns.waiting, turns.has_room) == (1, 6, False)
    await asyncio.gather(*tasks)
    assert order == ["many", "few", "many", "few", "many", "many", "batch", "batch"]
    assert (turns.running, turns.waiting, turns.has_room) == (0, 0, True)


async def test_whoever_waits_too_long_is_told_and_forgotten() -> None:
    turns, order = Turns(1), []
    async with turns.turn("first", 5):
        with pytest.raises(QueueTimeout):
            async with turns.turn("late", 0.01):
                raise AssertionError
        assert turns.waiting == 0
    await take(turns, "next", order)
    assert order == ["next"]


async def test_no_turn_is_lost_however_waiting_ends() -> None:
    turns, dice, done = Turns(3), random.Random(7), 0

    async def one(number: int) -> None:
        nonlocal done
        try:
            async with turns.turn(f"p{number % 5}", dice.choice((0.001, 0.02, 5)), idle=dice.random() < 0.2):
                assert turns.running <= 3
                await asyncio.sleep(dice.random() * 0.004)
        except QueueTimeout:
            pass
        done += 1

    tasks = [asyncio.create_task(one(number)) for number in range(300)]
    for task in dice.sample(tasks, 100):
        await asyncio.sleep(dice.random() * 0.002)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done >= 200
    assert (turns.running, turns.waiting, turns.has_room) == (0, 0, True)


async def test_without_a_limit_nobody_waits() -> None:
    turns = Turns(None)
    async with turns.turn("a", 0.001), turns.turn("a", 0.001):
        assert turns.running == 2
