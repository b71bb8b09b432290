"""docs/openapi.yaml names all that is served, and the web side keeps to it whatever it is asked."""

import re

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tailer.errors import InvalidParameter
from tailer.listing import ListQuery
from tailer.many_query import ManyQuery
from tailer.query import LogQuery
from tailer.records import STDERR
from tailer.settings import Settings, switch
from tailer.web import create_app
from tests.processes import shared
from tests.stack import ROOT, web_process
from tests.written import Written

FILE = ROOT / "docs" / "openapi.yaml"
DESCRIBED = yaml.safe_load(FILE.read_text())
OPERATIONS = [found.ok() for found in schemathesis.openapi.from_path(FILE).get_all_operations()]
QUERIES = {
    "/jobs/{job_id}/log": LogQuery.parse,
    "/jobs": ListQuery.parse,
    "/logs": ManyQuery.parse,
}


def named(path, place):
    """The parameters that the description of a path has in a place."""
    described = DESCRIBED["paths"][path]
    parts = [part for name, part in described.items() if name != "parameters"]
    parameters = described.get("parameters", []) + [one for part in parts for one in part.get("parameters", [])]
    known = DESCRIBED["components"]["parameters"]
    resolved = [known[one["$ref"].rpartition("/")[2]] if "$ref" in one else one for one in parameters]
    return {one["name"] for one in resolved if one["in"] == place}


def test_every_route_is_described():
    """Each URL that is served is in the description with its methods and its parts, and no other one is."""
    served, parts = {}, {}
    for rule in create_app(Settings()).url_map.iter_rules():
        if rule.endpoint.startswith("tailer."):
            path = re.sub("<([a-z_]+)>", r"{\1}", rule.rule)
            served[path] = served.get(path, set()) | {name.lower() for name in rule.methods - {"HEAD", "OPTIONS"}}
            parts[path] = rule.arguments

    assert {path: set(methods) - {"parameters"} for path, methods in DESCRIBED["paths"].items()} == served
    assert {path: named(path, "path") for path in served} == parts


@pytest.mark.parametrize("path", sorted(QUERIES))
def test_every_parameter_is_described(path):
    """The parameters that a route says it takes are those in its description."""
    with pytest.raises(InvalidParameter) as refused:
        QUERIES[path]({"no such parameter": "x"})

    assert named(path, "query") == set(refused.value.allowed.removeprefix("the parameters are ").split(", "))


def test_no_other_route_has_parameters():
    """What is not asked of the routes above is nowhere in the description."""
    others = set(DESCRIBED["paths"]) - set(QUERIES)

    assert {path: named(path, "query") for path in others} == {path: set() for path in others} | {LINK: {"for"}}


# Whatever is asked.

LINK = "/jobs/{job_id}/link"
OVER, RUNNING, HURT = "over", "running", "hurt"
ASKED = [
    pytest.param(operation, mode, id=f"{operation.path}-{mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.path in {*QUERIES, "/jobs/{job_id}"}
]
CONTRADICT = {"/jobs/{job_id}/log", "/logs"}
"""Streams. Some of their parameters may not go together, or need another one."""
known = st.sampled_from([OVER, OVER, RUNNING, HURT])
accepts = st.sampled_from(["*/*", "application/json", "text/html", "text/event-stream", "text/plain"])


@pytest.fixture(scope="module")
def web(stack):
    """A web side that has all that it needs to answer."""
    with web_process(stack.url, env={"TAILER_SECRET_KEY": "a-key-for-no-longer-than-this-test"}) as (url, process):
        shared.add(process.pid)
        yield url


@pytest.fixture(scope="module")
def logs(stack):
    """Logs of three kinds of jobs."""
    over = Written(stack.store, OVER)
    over.write(b"one\ntwo \x1b[32mgreen\x1b[0m\n")
    over.write("\0 naïve\n".encode(), STDERR)  # what is not UTF-8 stays so in events, and no reader of JSON takes that
    over.end("failed", final=False)
    over.start()
    over.write(b"again\n" * 1000)
    over.end()
    running = Written(stack.store, RUNNING)
    running.rq_job(stack.connection, "started")
    running.write(b"so far")
    hurt = Written(stack.store, HURT)
    hurt.hole(100, 7, "a test")
    hurt.corrupt(9, 1)
    hurt.write(b"behind\n")
    hurt.end("killed", signal=9, reason="a test")


def without_waiting(case):
    """Have a stream end by itself, unless `follow` is something that is to be refused."""
    try:
        wants = switch(str(case.query.get("follow", "1")))
    except ValueError:
        return
    if wants:
        case.query["follow"] = "0"


@pytest.mark.parametrize(("operation", "mode"), ASKED)
@settings(max_examples=40, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(data=st.data(), accept=accepts, job_id=st.none() | known)
def test_whatever_is_asked_is_answered_as_described(web, logs, operation, mode, data, accept, job_id):
    """Any value of any parameter gets an answer of a status, type and form that the description has, and no 5xx.

    What the description does not allow is refused, but for browsers, which get a page that says so.
    """
    case = data.draw(operation.as_strategy(generation_mode=mode))
    if mode is GenerationMode.POSITIVE and job_id and "job_id" in case.path_parameters:
        case.path_parameters["job_id"] = job_id  # one that there is
    if operation.path in CONTRADICT:
        without_waiting(case)
    allowed = [positive_data_acceptance] if operation.path in CONTRADICT else []
    if accept == "text/html":
        allowed.append(negative_data_rejection)
    case.call_and_validate(base_url=web, headers={"Accept": accept}, timeout=10, excluded_checks=allowed)
