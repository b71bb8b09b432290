"""The fault suite: what is left of a log, and of its job, when something goes wrong.

`make faults` runs all of it and writes the tables in docs/guarantees.md; `make test` runs the faults that are not
marked `whole`, and some for a shorter time (`trial.seconds`). A fault is one test in the module of its group,
test_GROUP_faults.py, and the first line of its docstring is its name in the table::

    def test_killed(trial):
        '''All its processes get SIGKILL, and are started again.'''
        trial.begin()  # a Redis, a web process, a worker, a running job and its followers in all formats
        trial.web.stop(signal.SIGKILL)
        trial.web.start()
        trial.recover()  # how long until all followers have all that was written up to now
        trial.finish()  # lets the job end, accounts for every byte, and makes the row

A job that dies has `trial.end_seen()` instead of `recover`, and the outcome for `finish`. Servers of a test's own are
given to `begin` by their URLs; what must live as long as the trial is entered with `trial.hold`.

Faults are real: signals, `tests.proxy`, full disks. The job (jobs.py) keeps its own account of what it has written
(account.py); each follower (followers.py) comes back from its cursor when its stream breaks, and accounts for what it
gets (received.py). Beside the worker under test a plain `rq.Worker` runs the same job, without capture and followers;
what is done to the one can be done to the other: `for task in trial.workers`. `trial.finish` fails if a byte was lost
or doubled without a record, if a hole has a cause or a size that the test did not allow, or if the job came to
anything else, or took longer, than under plain RQ.

soak.py (`make soak`) does all of this at once, for half an hour: strikes.py has what hits it.
"""
