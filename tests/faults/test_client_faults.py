"""Faults of clients: they are killed, stall, leave or come in crowds. Nobody else notices, and they lose nothing."""

import time


def test_killed(trial):
    """All clients over HTTP are cut off every 200 ms, and come back."""
    trial.begin()
    for _ in range(10):
        time.sleep(0.2)  # the pace is the fault
        for follower in trial.crowd.followers:
            follower.leave("reset")
    trial.recover()
    trial.finish()
    assert all(follower.broken >= 5 for follower in trial.crowd.followers)
