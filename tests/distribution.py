"""Distribution of tests over workers, and their order, where the suite runs on several (pytest-xdist).

A file's tests go to one worker, so that what its fixtures make is made once. Files of a group share a worker too: they
would fight for a broker, a database server or a browser, load the model once more each, or repeat a run that others
only read. The marks of pytest-xdist 3.8 for this have no effect with the node ids of pytest 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

GROUPS = {
    "broker": ("e2e/test_mqtt.py",),
    "database": ("e2e/test_postgresql.py",),
    "browser": ("e2e/test_review.py", "e2e/test_pages.py"),
    "sample run": ("e2e/test_run.py", "e2e/test_optimize.py"),
    "model": (
        "contract/test_engine.py",
        "e2e/test_restored_prefix.py",
        "integration/test_llamacpp.py",
        "integration/test_openvino.py",
        "integration/test_own_model.py",
        "integration/test_quantised.py",
        "integration/test_search_benchmark_arms.py",
        "integration/test_saved_prefixes.py",
        "integration/test_together.py",
    ),
}
_FIRST = ("e2e/test_live.py", *GROUPS["model"], *GROUPS["browser"], "e2e/test_mqtt.py", "e2e/test_faults.py")
"""What takes longest on one worker, the longest first, so that nobody waits for it in the end."""
_THEN = ("e2e", "contract", "integration", "unit")
_GROUP_OF = {file: group for group, files in GROUPS.items() for file in files}


def rank(nodeid: str) -> tuple[int, int]:
    """Sort key of tests; files keep their order within a folder, and tests within a file."""
    file, folder = _file(nodeid), _file(nodeid).split("/")[0]
    return (
        _FIRST.index(file) if file in _FIRST else len(_FIRST),
        _THEN.index(folder) if folder in _THEN else len(_THEN),
    )


def group(nodeid: str) -> str:
    file = _file(nodeid)
    return _GROUP_OF.get(file, file)


def scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give whole groups to workers, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)


def _file(nodeid: str) -> str:
    return nodeid.split("::", 1)[0].removeprefix("tests/")
