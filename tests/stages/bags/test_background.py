import threading
import time

import pytest

from sapnet_pipe.stages.bags.background import InBackground, fetched_ahead


def test_items_come_in_order_with_what_was_fetched():
    with fetched_ahead(lambda item: item * 10, [3, 1, 2], ahead=1) as items:
        assert [(item, future.result()) for item, future in items] == [(3, 30), (1, 10), (2, 20)]


def test_no_more_is_fetched_than_may_wait():
    fetched: list[int] = []
    with fetched_ahead(fetched.append, list(range(100)), ahead=3) as items:
        next(items)
        time.sleep(0.05)
        assert fetched == [0, 1, 2, 3]
    assert len(fetched) == 4


def test_a_fault_of_one_item_waits_for_its_turn():
    with fetched_ahead(lambda item: 1 // item, [1, 0, 2], ahead=5) as items:
        (_, first), (_, second), (_, third) = items
        assert (first.result(), third.result()) == (1, 0)
        assert isinstance(second.exception(), ZeroDivisionError)


def test_leaving_early_stops_the_thread():
    def leave() -> None:
        with fetched_ahead(str, list(range(1000)), ahead=2) as items:
            next(items)
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


def test_calls_run_one_after_another_and_all_before_leaving():
    done: list[int] = []

    def slow(number: int) -> None:
        time.sleep(0.002)
        done.append(number)

    with InBackground(2) as background:
        for number in range(10):
            background.put(slow, number)
    assert done == list(range(10))


def test_a_fault_is_raised_at_the_next_occasion():
    with pytest.raises(ZeroDivisionError), InBackground(1) as background:
        _divide_and_wait(background)


def _divide_and_wait(background):
    background.put(lambda: 1 // 0)
    for _ in range(1000):
        background.check()
        time.sleep(0.002)
    pytest.fail("nothing was raised")


def test_a_fault_of_the_last_call_is_raised_on_leaving():
    with pytest.raises(ZeroDivisionError), InBackground(5) as background:
        background.put(lambda: 1 // 0)


@pytest.mark.parametrize(("finish", "expected"), [(False, [0]), (True, [0, 1, 2])])
def test_after_a_fault_what_runs_is_ended_and_what_waits_given_up_or_done(finish, expected):
    running, done = threading.Event(), []

    def slow(number):
        running.set()
        time.sleep(0.05)
        done.append(number)

    def interrupted() -> None:
        with InBackground(5, finish=finish) as background:
            for number in range(3):
                background.put(slow, number)
            running.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == expected
