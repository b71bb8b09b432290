"""Tests, a package so that they can import their helpers: `from tests.waiting import wait_until`."""

import pytest

# Helpers that assert, so that their failures show the values as those of tests do.
pytest.register_assert_rewrite("tests.log_model", "tests.store_contract")
