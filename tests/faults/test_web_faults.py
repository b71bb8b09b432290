"""Faults of the web side: it is stopped, killed and reloaded under its followers, which go on where they were."""

import signal


def test_killed(trial):
    """SIGKILL of all its processes, started again."""
    trial.begin()
    trial.web.stop(signal.SIGKILL)
    trial.write_on(20_000)
    trial.web.start()
    trial.recover()
    trial.finish()
