"""The store's contract on each server that Tailer supports; see `store_contract.py`."""

from collections.abc import Iterator

import fakeredis
import pytest
import redis

from tailer.embedded import EmbeddedServer
from tailer.store import connect
from tests.clusters import ThreeNodes, three_nodes
from tests.processes import shared
from tests.store_contract import BudgetContract, ServerContract, StoreContract

DATABASE = 9  # of a server that other tests use too


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedServer]:
    """The embedded server, shared by the tests of this module."""
    with EmbeddedServer() as embedded:
        shared.add(embedded.pid)
        yield embedded


def empty(url: str) -> Iterator[redis.Redis]:
    """A connection to an empty database."""
    with connect(f"{url[:-2]}/{DATABASE}") as connection:
        connection.flushdb()
        yield connection


class TestValkey9(ServerContract):
    """The embedded server."""

    @pytest.fixture
    def connection(self, valkey):
        """A connection to an empty database of it."""
        yield from empty(valkey.url)

    @pytest.fixture
    def own(self, server):
        """A server to do things to."""
        return server


class TestRedis7(ServerContract):
    """The stock redis-server."""

    @pytest.fixture
    def connection(self, redis7):
        """A connection to an empty database of it."""
        yield from empty(redis7.url)

    @pytest.fixture
    def own(self, redis7):
        """A server to do things to."""
        with EmbeddedServer(binary="redis-server") as stock:
            yield stock


@pytest.fixture(scope="module")
def cluster() -> Iterator[ThreeNodes]:
    """A cluster, shared by the tests of this module."""
    with three_nodes() as nodes:
        shared.update(node.server.pid for node in nodes.nodes)
        yield nodes


class TestCluster(BudgetContract, StoreContract):
    """A cluster of three nodes."""

    @pytest.fixture
    def connection(self, cluster):
        """A connection to it, empty."""
        with connect(cluster.url) as connection:
            connection.flushall(target_nodes="primaries")
            yield connection


class TestFakeredis(StoreContract):
    """fakeredis, which other people's unit tests may use with a `LogStore`."""

    @pytest.fixture
    def connection(self):
        """A server in memory of its own."""
        with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as connection:
            yield connection
