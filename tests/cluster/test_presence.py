"""Who is there gets work; who lacks something is asked again later; without anybody, a run does not wait for ever."""

from __future__ import annotations

import pytest

from polygon_async.errors import RunError
from polygon_async.run.cluster.presence import Presence


def test_who_lacks_something_is_asked_again_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    presence = Presence(0.0)
    presence.update(["a", "b"])
    assert presence.usable(1.0) == ["a", "b"]
    assert presence.are_all_fit()
    for _ in range(2):
        presence.lacks("b", "no key", 1.0)
    assert presence.usable(60.0) == ["a"]
    assert not presence.are_all_fit()
    assert presence.usable(61.0) == ["a", "b"]
    presence.works("b")
    assert presence.usable(2.0) == ["a", "b"]
    assert [record.message for record in caplog.records] == ["worker b: no key; it gets no tickers"]


def test_a_worker_that_is_gone_leaves_nothing() -> None:
    presence = Presence(0.0)
    presence.update(["a", "b"])
    presence.lacks("b", "no key", 1.0)
    presence.lost("b")
    assert presence.there == {"a"}
    assert presence.are_all_fit()


@pytest.mark.parametrize("there", [[], ["a"]])
def test_without_a_worker_that_can_do_something_the_run_ends_after_ten_minutes(
    there: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    presence = Presence(0.0)
    presence.update(there)
    for moment in range(0, 601, 10):
        if there:
            presence.lacks("a", "no key", float(moment))
        assert presence.usable(float(moment)) == []
    with pytest.raises(RunError, match="no worker has been there for 10 minutes; start some"):
        presence.usable(601.0)
    told = [record.message for record in caplog.records if "waiting" in record.message]
    assert told == ["no worker can do anything; waiting 10 minutes for one"]
    presence.update(["b"])
    assert presence.usable(602.0) == ["b"]
