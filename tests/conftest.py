"""Setup of every test: the number of examples of a property, and the spread of tests over workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests import distribution, profiles

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

profiles.load()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: distribution.rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return distribution.scheduler(config, log)
