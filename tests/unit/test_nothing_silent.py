"""No exception is swallowed in a live run: each handler raises, counts, logs or passes on what it caught, or stands
below with the reason why nothing is lost."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("agent/app", "agent/live", "agent/service", "agent/trading", "market", "tools")
SAYS = {"note", "warn", "warning", "exception", "info", "log"}
"""Methods that count an incident or write to the log."""
QUIET = {
    ("agent/app/engines.py", "slow_load.progress", "RuntimeError"): "nobody listens to the progress any more",
    ("agent/live/recorder.py", "_Recording.run", "TimeoutError"): "the time that was asked for is over",
    (
        "agent/live/promotion.py",
        "_today",
        "ValidationError",
    ): "a configuration that is not of today is compared as it is",
    ("agent/live/status.py", "_limits", "(KeyError, TypeError, ValueError, ArithmeticError)"): "told as unknown limits",
    ("agent/live/wallet.py", "new_key", "Misconfigured"): "another random number is tried",
    ("agent/service/installing.py", "systemd_version", "OSError"): "told as a machine without systemd",
    ("agent/service/jobs.py", "_Running.once", "asyncio.CancelledError"): "the block of the job ends",
    ("agent/service/logstream.py", "LogStream._do", "Exception"): "counted as a failed line, and told as a gap",
    ("agent/service/logstream.py", "_Routed.emit", "Exception"): "the line is written without its arguments",
    ("agent/service/logstream.py", "_for_journald", "OSError"): "an output without a device is no journal",
    ("agent/service/logstream.py", "open_stream", "(io.UnsupportedOperation, ValueError)"): "an output of a test",
    ("agent/service/mqtt.py", "Link._publish_money", "TimeoutError"): "the pause between two looks is over",
    ("agent/service/mqtt.py", "_object", "ValueError"): "what is no object is told by whoever asked for one",
    ("agent/service/outbox.py", "Outbox._kept", "FileNotFoundError"): "nothing was published before",
    ("agent/trading/event_log.py", "event_log", "OSError"): "a failed write was told before the file is closed",
    (
        "agent/trading/kill_switch.py",
        "watching_kill_switch",
        "RuntimeError, ValueError",
    ): "the file has to do",
    ("market/polymarket/frames.py", "_names", "(msgspec.MsgspecError, ValueError, RecursionError)"): "refused already",
    ("market/polymarket/frames.py", "_read_mixed", "(msgspec.MsgspecError, ValueError, RecursionError)"): (
        "a refused event with the first reason"
    ),
    ("market/polymarket/hosts.py", "is_loopback", "ValueError"): "a name is no address",
    ("market/polymarket/wire.py", "Wire.say", "ConnectionError, WSError"): "the connection's end is told by its reader",
    ("tools/analysis/reading.py", "_times", "PolarsError"): "a column without times is told as text",
    ("tools/halts.py", "KillSwitch._thrown_without_room", "OSError"): "the answer is whether the file is there",
    ("tools/halts.py", "KillSwitch.history", "FileNotFoundError"): "nothing was ever halted",
    ("tools/halts.py", "KillSwitch.read", "(FileNotFoundError, NotADirectoryError)"): "nothing is halted",
    (
        "tools/halts.py",
        "KillSwitch.read",
        "(ValueError, KeyError, TypeError)",
    ): "it halts without a reason, too",
    ("tools/keystore.py", "create", "OSError"): "the error of the write is raised",
    ("tools/keystore.py", "open_key", "ValueError"): "told as a wrong passphrase",
    ("tools/limits.py", "Switched.send", "StoreUnavailable"): "the halt itself is raised",
    ("tools/polymarket/auth.py", "authentic", "(KeyError, ValueError, binascii.Error)"): "the answer is no",
    ("tools/polymarket/auth.py", "proven", "(KeyError, ValueError, OverflowError)"): "the answer is no",
    ("tools/polymarket/chain.py", "ChainWallet.receipt", "TransactionNotFound"): "the answer is that there is none",
    ("tools/polymarket/chain.py", "_bytes32", "ValueError"): "refused by its length right after",
    ("tools/polymarket/chain.py", "_host", "ValueError"): "refused as no URL right after",
    ("tools/polymarket/orders.py", "PolymarketOrders.send", "VenueUnavailable"): "the order is asked for right after",
    ("tools/polymarket/signing.py", "recovered", "Exception"): "the answer is that nobody signed it",
}


def silent(source: str) -> Iterator[tuple[str, str]]:
    """Name of the function and the exceptions of each handler, and each `suppress`, that does nothing with them."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and not _says(node):
            yield _where(node), ast.unparse(node.type) if node.type else "everything"
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("suppress"):
                    yield _where(node), ", ".join(map(ast.unparse, call.args))


def _where(node: ast.AST | None) -> str:
    names = []
    while node is not None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        node = getattr(node, "parent", None)
    return ".".join(reversed(names))


def _says(handler: ast.ExceptHandler) -> bool:
    """True if the handler raises, counts, logs or uses what it caught."""
    return any(
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SAYS)
        or (isinstance(node, ast.Name) and node.id == handler.name and isinstance(node.ctx, ast.Load))
        for node in ast.walk(handler)
    )


def found() -> set[tuple[str, str, str]]:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    return {(str(f.relative_to(ROOT)), *one) for f in files for one in silent(f.read_text(encoding="utf-8"))}


def test_what_is_caught_is_counted_or_said_or_stands_here_with_a_reason() -> None:
    assert found() - QUIET.keys() == set(), "raise, count (market.incidents) or log it, or say why not"
    assert QUIET.keys() - found() == set(), "no such handler any more"


@pytest.mark.parametrize(
    ("handler", "silently"),
    [
        ("try:\n  f()\nexcept ValueError:\n  pass", True),
        ("try:\n  f()\nexcept ValueError as error:\n  return", True),
        ("try:\n  f()\nexcept:\n  x = 1", True),
        ("with suppress(OSError):\n  f()", True),
        ("async with contextlib.suppress(OSError):\n  f()", True),
        ("try:\n  f()\nexcept ValueError as error:\n  self.incidents.note('refused', error)", False),
        ("try:\n  f()\nexcept ValueError as error:\n  g(error)", False),
        ("try:\n  f()\nexcept ValueError:\n  raise X from None", False),
    ],
)
def test_a_handler_that_does_nothing_is_found(handler: str, silently: bool) -> None:
    inside = "\n".join(f"  {line}" for line in handler.splitlines())
    assert bool(list(silent(f"async def work():\n{inside}"))) is silently
