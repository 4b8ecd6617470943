"""Which workers are asked after losses, by a clock that the test sets."""

import pytest

from hfnumba.engine.cluster.losses import Losses, least_lost
from hfnumba.errors import ClusterError


def test_a_worker_lost_again_and_again_rests_for_longer_each_time_and_one_that_goes_on_answering_is_asked_again():
    now = [0.0]
    losses = Losses(10.0, lambda: now[0])
    assert [losses.lost("a") for _ in range(4)] == [0, 20, 40, 80]
    assert losses.rests("a") and not losses.rests("b")
    now[0] = 79.9
    assert losses.rests("a")
    now[0] = 80.0
    assert not losses.rests("a")
    assert max(losses.lost("a") for _ in range(2000)) == 3600
    for _ in range(9):
        losses.answered("a")
    assert losses.rests("a") and losses.lost("a") == 3600, "nine rounds with small messages may pass a bad network"
    for _ in range(10):
        losses.answered("a")
        losses.answered("b")
    assert not losses.rests("a")
    assert losses.lost("a") == 0 and not losses.rests("a")


def test_those_lost_least_in_a_round_are_asked_and_none_a_fourth_time():
    threads = {"a": 1, "b": 2, "c": 4}
    assert least_lost(threads, {"a": 0, "b": 1, "c": 0}, "") == {"a": 1, "c": 4}
    assert least_lost(threads, {"a": 2, "b": 2, "c": 3}, "") == {"a": 1, "b": 2}
    with pytest.raises(ClusterError, match="worker c is lost; it was lost 3 times in one round"):
        least_lost(threads, {"a": 3, "b": 3, "c": 3}, "worker c is lost")
