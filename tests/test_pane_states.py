"""What the pane and the list of jobs tell of jobs in every state, with real workers. In both browsers."""

import contextlib
import re

import pytest

from tests.panes import PanePage, hold, speaking
from tests.stack import Stack
from tests.written import Written


@pytest.fixture
def pane(page, stack) -> PanePage:
    """A page of the test's own."""
    return PanePage(page, stack.web)


def says(what):
    """A condition: what stands where lines would."""
    return f"pane?.element.querySelector('.empty-state').textContent.includes({what!r})"


def test_a_queued_job_tells_its_place_and_starts_before_ones_eyes(pane, stack, tmp_path):
    """Third in its queue, then running, then what it prints: without a reload."""
    queue = stack.queue()
    jobs = [queue.enqueue("tests.jobs.hello") for _ in range(3)]
    pane.open(jobs[2].id).until(says(f"3rd in the queue {queue.name}"))
    assert pane.ask("pane.element.querySelector('.badge').textContent") == "queued #3"
    stack.work(queue)
    pane.shows("hello")
    pane.until("pane.element.querySelector('.badge').textContent === 'finished'")


def test_a_running_job_without_output_says_so(pane, stack, tmp_path):
    """With the time that it runs."""
    with speaking(stack, tmp_path) as job:
        pane.open(job.job.id).until(says("No output yet"))
        job.out("now\n")
        pane.shows("now").until("pane.element.querySelector('.empty-state').hidden")


def test_an_answer_that_comes_late_does_not_bring_back_what_was(pane, stack, tmp_path):
    """What the page asked while the job ran is answered when it knows that the job has ended."""
    with speaking(stack, tmp_path) as job:
        pane.open(job.job.id)
        asked = hold(pane, f"{stack.web}/jobs/{job.job.id}", answered=True)
        pane.ask("pane.log.refresh()")
        let_go = asked()
    pane.until("pane.log.over && pane.log.info.attempts[0].end")
    assert let_go().json()["status"] == "started"
    assert pane.ask("pane.log.info.status") == "finished"


@pytest.mark.parametrize(
    ("function", "badge", "sentence"),
    [
        ("fail", "failed", r"failed after .*: \w+"),
        ("kill_itself", "killed", r"killed by signal 9 \(SIGKILL\) after"),
        ("hello", "finished", "finished after"),
    ],
)
def test_it_tells_how_a_job_ended(pane, stack, function, badge, sentence):
    """As the badge, and in a sentence below the log."""
    queue = stack.queue()
    job = queue.enqueue(f"tests.jobs.{function}")
    stack.work(queue)
    pane.open(job.id).until(f"pane.element.querySelector('.badge').textContent === {badge!r}")
    assert re.search(sentence, pane.ask("pane.element.querySelector('.foot .sentence').textContent"))


def test_attempts_are_tabs(pane, stack, tmp_path):
    """A retried job shows its last attempt; the first is a click away, and has a URL."""
    from rq import Retry  # noqa: PLC0415

    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.attempts", str(tmp_path / "again"), retry=Retry(max=1))
    stack.work(queue)
    pane.open(job.id).shows("second attempt")
    pane.pane.get_by_role("tab", name="1").click()
    pane.shows("first attempt")
    pane.page.wait_for_url("**?attempt=1")
    pane.page.reload()
    pane.ready().shows("first attempt")
    pane.pane.get_by_role("tab", name="2").click()
    pane.shows("second attempt")


def test_a_new_attempt_is_followed(pane, stack, tmp_path):
    """Who follows the first attempt sees the second one begin, and its tab."""
    from rq import Retry  # noqa: PLC0415

    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.attempts", str(tmp_path / "again"), retry=Retry(max=1))
    pane.open(job.id).until(says("1st in"))
    stack.work(queue)
    pane.shows("second attempt")
    pane.until("pane.element.querySelectorAll('.attempt').length === 2")


def test_a_new_attempt_is_followed_that_was_known_before_the_stream_told_of_it(pane, stack, tmp_path):
    """The page asks beside its stream how the job does, and may learn there first that it runs again."""
    from rq import Retry  # noqa: PLC0415

    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.attempts", str(tmp_path / "again"), retry=Retry(max=1))
    pane.open(job.id).until(says("1st in"))
    pane.ask("pane.log.stream.stop()")
    stack.work(queue)
    pane.ask("pane.log.refresh()")
    pane.until("pane.log.info.attempts.length === 2")
    pane.ask("pane.log.stream.restart()")
    pane.shows("second attempt")


def test_a_job_that_is_requeued_is_followed_again(pane, stack, tmp_path):
    """Who looks at how it failed sees that it waits, and then what it prints."""
    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.attempts", str(tmp_path / "again"))
    stack.work(queue)
    pane.open(job.id).shows("first attempt")
    pane.until("pane.log.over && pane.element.querySelector('.badge').textContent === 'failed'")
    job.requeue()
    pane.until("pane.element.querySelector('.badge').textContent.startsWith('queued')")
    stack.work(queue)
    pane.shows("second attempt")
    pane.until("pane.log.over && pane.element.querySelector('.badge').textContent === 'finished'")


def over(pane, stack, tmp_path):
    """A job that has failed, is shown so, and does better the next time; and its queue."""
    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.attempts", str(tmp_path / "again"))
    stack.work(queue)
    pane.open(job.id).until("pane.log.over && pane.log.info.status === 'failed'")
    pane.ask("pane.log.stream.stop()")
    return job, queue


def test_a_job_that_has_run_again_meanwhile_is_shown(pane, stack, tmp_path):
    """It may have waited, run and ended again before the page is told of any of that."""
    job, queue = over(pane, stack, tmp_path)
    job.requeue()
    stack.work(queue)
    pane.ask("pane.log.stream.restart()")
    pane.shows("second attempt")
    pane.until("pane.log.over && pane.element.querySelector('.badge').textContent === 'finished'")


def test_a_job_that_was_requeued_when_it_had_just_ended_is_followed_again(pane, stack, tmp_path):
    """The page asks how the job does when it is over, and may learn by that alone that it waits."""
    job, queue = over(pane, stack, tmp_path)
    job.requeue()
    pane.ask("pane.log.refresh()")
    pane.until("pane.log.info.status === 'queued' && !pane.log.over")
    stack.work(queue)
    pane.shows("second attempt")


def test_a_job_that_went_down_with_its_worker_is_told_to_be_lost(pane, stack, complaints):
    """At once and for as long as RQ says that it runs: above its log, and in the list."""
    complaints.allow("ERR_FAILED|Failed to load resource")
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    log.write(b"before\n")
    pane.open(log.job_id).shows("before")
    pane.page.route(f"**/jobs/{log.job_id}", lambda route: route.abort())  # what the stream tells is enough
    log.end("lost", status="started")
    pane.until("pane.element.querySelector('.badge').textContent === 'lost'")
    pane.page.locator(f"a.job[href='/jobs/{log.job_id}'] .state", has_text="lost").wait_for()


def test_an_unknown_job_is_told_of_and_not_asked_for_again(pane, complaints):
    """A state of the pane, no error of the page."""
    complaints.allow("404")
    pane.page.goto(f"{pane.web}/jobs/nobody-knows-this-one")
    pane.until(says("There is no such job"))
    assert pane.ask("pane.log.stream.query()") in (None, "json=chunks&list=1")


def test_the_list_shows_states_as_they_change(pane, stack, tmp_path):
    """A new job appears, runs, and is done, while one looks; the filter finds it, and a click opens it."""
    pane.page.goto(pane.web)
    queue = stack.queue()
    pane.page.get_by_label("Filter jobs").fill(queue.name)
    job = queue.enqueue("tests.jobs.hello")
    item = pane.page.locator(f"a.job[href='/jobs/{job.id}']")
    item.locator(".state", has_text="#1").wait_for()
    stack.work(queue)
    item.locator(".state", has_text="finished").wait_for()
    item.click()
    pane.page.wait_for_url(f"**/jobs/{job.id}")
    pane.ready().shows("hello")
    assert "tests.jobs.hello" in pane.page.title()


def test_arrows_lead_through_the_list(pane, stack):
    """The list is one stop of the Tab key, however many jobs it has; Enter opens the one in focus."""
    queue = stack.queue()
    jobs = [queue.enqueue("tests.jobs.hello") for _ in range(3)]
    pane.page.goto(pane.web)
    pane.page.get_by_label("Filter jobs").fill(queue.name)
    pane.page.wait_for_function("() => document.querySelectorAll('a.job').length === 3")
    assert pane.page.locator("a.job[tabindex='0']").count() == 1
    second = pane.page.locator("a.job").nth(1).get_attribute("href")
    pane.page.keyboard.press("Tab")
    assert pane.page.evaluate("() => document.activeElement.matches('a.queue')")
    pane.page.keyboard.press("Tab")
    pane.page.keyboard.press("ArrowDown")
    pane.page.keyboard.press("ArrowDown")
    pane.page.keyboard.press("ArrowUp")
    pane.page.keyboard.press("Enter")
    pane.page.wait_for_url(f"**{second}")
    assert second
    assert second.rpartition("/")[2] in [job.id for job in jobs]


def test_what_is_in_focus_stays_so_when_the_list_changes(pane, stack):
    """A queue or a job that has the focus keeps it when new ones come, and when the job goes to another section."""
    queue = stack.queue()
    job = queue.enqueue("tests.jobs.hello")
    queued = pane.page.locator(f"a.job[href$='{job.id}']")
    pane.page.goto(pane.web)
    for link in (pane.page.locator("a.queue", has_text=queue.name), queued):
        link.focus()
        other = stack.queue().enqueue("tests.jobs.hello")
        pane.page.locator(f"a.job[href$='{other.id}']").wait_for()
        assert link.evaluate("(link) => link === document.activeElement")
    stack.work(queue)
    pane.page.locator(f"section:has-text('Done') a.job[href$='{job.id}']").wait_for()
    assert queued.evaluate("(link) => link === document.activeElement")


def test_four_panes_share_one_connection(pane, stack, tmp_path):
    """Side by side, each with its own lines, by one stream; keys move between them and close them."""
    with contextlib.ExitStack() as held:
        jobs = [held.enter_context(speaking(stack, tmp_path)) for _ in range(4)]
        streams = []
        pane.page.on("request", lambda asked: streams.append(asked.url) if "/logs?" in asked.url else None)
        pane.page.goto(f"{pane.web}/view?" + "&".join(f"job={job.job.id}" for job in jobs))
        for index, job in enumerate(jobs):
            PanePage(pane.page, pane.web, index).ready()
            job.out(f"pane {index}\n")
        for index in range(4):
            PanePage(pane.page, pane.web, index).shows(f"pane {index}")
        last = streams[-1]
        assert all(job.job.id in last for job in jobs)
        pane.page.keyboard.press("3")
        pane.page.locator("tailer-log.active").nth(0).wait_for()
        pane.page.keyboard.press("x")
        pane.page.wait_for_function("() => document.querySelectorAll('tailer-log').length === 3")
        assert jobs[2].job.id not in pane.page.url


def test_bars_look_as_in_a_terminal(pane, stack, tmp_path):
    """Tqdm's and rich's, in colours: a bar is one row that changes, and text that can be selected."""
    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.bars", str(tmp_path / "go on"))
    with stack.worker(queue):
        pane.open(job.id).shows("50/100")
        assert [row.split(":")[0] for row in pane.rows()] == ["before", "import"]
        (tmp_path / "go on").touch()
        pane.shows("after")
        stack.wait_for(job, "finished")
    rows = pane.rows()
    assert [re.split(r"[:\u2501]", row)[0].strip() for row in rows] == ["before", "import", "load 0", "load 1", "after"]
    assert all("100%" in row for row in rows[1:4])
    assert pane.ask("pane.view.lines.querySelectorAll('.r span[style*=color]').length") > 0


@pytest.mark.parametrize("known", [True, False])
def test_expired_logs_are_told_of(pane, stack, complaints, known):
    """As expired, not as unknown, nor as a job that printed nothing: whether RQ still knows the job or not."""
    complaints.allow("410")
    log = Written(stack.store)
    log.rq_job(stack.connection, "finished")
    log.end("finished")
    stack.connection.delete(*stack.connection.keys(f"*{{{log.job_id}}}*"))
    if not known:
        stack.connection.delete(f"rq:job:{log.job_id}")
    pane.page.goto(f"{pane.web}/jobs/{log.job_id}")
    pane.until(says("has expired"))


def test_older_jobs_are_loaded_when_they_are_wanted(page, server, complaints):
    """The list has the newest; the others come by a button, which says so where that fails, and tries again."""
    complaints.allow("Failed to load resource")
    with Stack.on(server.url) as stack:
        for number in range(210):
            Written(stack.store, f"job-{number:03}").end()
        page.goto(f"{stack.web}/jobs")
        older, listed = page.get_by_role("button", name=re.compile("Older jobs|Try again")), page.locator("a.job")
        older.wait_for()
        before = listed.count()
        page.route("**/jobs?limit=*", lambda route: route.abort(), times=1)
        older.click()
        page.get_by_role("button", name="Not loaded: the server cannot be reached. Try again").click()
        page.wait_for_function(f"() => document.querySelectorAll('a.job').length > {before}")
        older.wait_for(state="hidden")
