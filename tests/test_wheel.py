from __future__ import annotations

import random

import pytest

from fairlead.wheel import Timed, Wheel


class Item:
    due = 0

    def __init__(self, name: str = "") -> None:
        self.name = name

    def expired(self) -> None: ...


@pytest.mark.parametrize("delay", [0, 0.2, 1, 1.5, 45])
def test_deadline_is_never_early_and_at_most_a_second_late(delay: float) -> None:
    wheel, item = Wheel(100), Item()
    wheel.schedule(item, delay)
    second = 100
    while not wheel.advance(second := second + 1):
        pass
    # The real time of scheduling lies in [100, 101).
    assert second - 101 >= delay - 1e-9 or second - 100 > delay
    assert second - 101 <= delay + 1


def test_what_is_due_comes_out_once_and_the_earliest_first() -> None:
    wheel = Wheel(10)
    items = [Item(str(delay)) for delay in (3, 1, 2)]
    for item in items:
        wheel.schedule(item, float(item.name))
    assert [item.name for item in wheel.advance(20) if isinstance(item, Item)] == ["1", "2", "3"]
    assert wheel.advance(30) == []
    assert not wheel
    assert [item.due for item in items] == [0, 0, 0]


def test_rescheduling_moves_the_one_deadline() -> None:
    wheel, item = Wheel(), Item()
    wheel.schedule(item, 5)
    wheel.schedule(item, 50)
    assert len(wheel) == 1
    assert wheel.advance(20) == []
    assert wheel.advance(60) == [item]


def test_cancelling_twice_or_unscheduled_is_harmless() -> None:
    wheel, item = Wheel(), Item()
    wheel.cancel(item)
    wheel.schedule(item, 5)
    wheel.cancel(item)
    wheel.cancel(item)
    assert not wheel
    assert wheel.advance(100) == []


def test_a_long_sleep_of_the_machine_skips_empty_seconds() -> None:
    wheel, soon, late = Wheel(), Item(), Item()
    wheel.schedule(soon, 5)
    wheel.schedule(late, 10**9)
    assert wheel.advance(10**8) == [soon]
    assert len(wheel) == 1


def test_time_does_not_go_back() -> None:
    wheel, item = Wheel(100), Item()
    wheel.schedule(item, 0)
    assert wheel.advance(99) == []
    assert wheel.now == 100


@pytest.mark.parametrize("seed", range(20))
def test_random_schedules_agree_with_a_plain_dict(seed: int) -> None:
    rng = random.Random(seed)
    wheel, now = Wheel(), 1
    items = [Item(str(i)) for i in range(20)]
    model: dict[Timed, int] = {}
    for _ in range(300):
        item = rng.choice(items)
        match rng.randrange(3):
            case 0:
                delay = rng.randrange(30)
                wheel.schedule(item, delay)
                model[item] = now + delay + 1
            case 1:
                wheel.cancel(item)
                model.pop(item, None)
            case _:
                now += rng.randrange(5)
                due = wheel.advance(now)
                expected = {item for item, second in model.items() if second <= now}
                assert set(due) == expected
                assert len(due) == len(expected)
                for each in expected:
                    del model[each]
        assert len(wheel) == len(model)
