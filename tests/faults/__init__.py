"""The fault suite: what is left of a log, and of its job, when something goes wrong.

`make faults` runs all of it and writes the table in docs/guarantees.md; `make test` runs the faults that are not
marked `whole`. A fault is one test in the module of its group, and its docstring is its row's name::

    def test_killed(trial):
        '''SIGKILL of all web processes, back a second later.'''
        trial.begin()  # a Redis, a web process, a worker, a running job and its followers in all formats
        trial.web.stop(signal.SIGKILL)
        trial.web.start()
        trial.recover()  # how long until all followers have all that was written up to now
        trial.finish()  # lets the job end, accounts for every byte, and makes the row

Faults are real: signals, `tests.proxy`, full disks. The job (jobs.py) keeps its own account of what it has written
(account.py); each follower (followers.py) comes back from its cursor when its stream breaks, and accounts for what it
gets (received.py). Beside the worker under test a plain `rq.Worker` runs the same job, without capture and followers;
what is done to the one can be done to the other: `for worker in trial.workers`. `trial.finish` fails if a byte was
lost or doubled without a record, or if a hole has a cause or a size that the test did not allow.
"""
