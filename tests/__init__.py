"""Tests, a package so that they can import their helpers: `from tests.waiting import wait_until`."""
