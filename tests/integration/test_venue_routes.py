"""Routes of the loopback venue that real clients use, and whatever else may be asked: no question is an error of the
venue's own."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from polymarket import PriceRequest

from backtest.venue.exchange import Pace
from backtest.venue.server import VenueServer
from market.clock import WallClock
from market.types import Market
from tests.integration.test_venue import play
from tests.servers import until
from tests.venue import KEY, Flat, address_of, loopback
from tools.polymarket import auth
from tools.polymarket.signing import Signer

SIGNER = Signer.of_hex(KEY)
FOREIGN = "7" * 70
"""A token that no market has."""


class Caller:
    """A client without a library, with API credentials of our key."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base, self.session = base, session
        self.credentials: auth.Credentials | None = None

    async def enrol(self) -> None:
        headers = auth.first_headers(SIGNER, int(WallClock().now().timestamp()))
        async with self.session.post(f"{self.base}/auth/api-key", headers=headers) as answer:
            said = await answer.json()
            self.credentials = auth.Credentials(said["apiKey"], said["secret"], said["passphrase"])

    async def ask(self, method: str, path: str, query: Any = None, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of an answer. Signed like any request of an account."""
        assert self.credentials is not None
        second = int(WallClock().now().timestamp())
        signed = auth.headers(SIGNER.address, self.credentials, second, method, path, body or b"")
        async with self.session.request(
            method, self.base + path, params=query, data=body, headers=signed, allow_redirects=False
        ) as answer:
            return answer.status, await answer.read()

    async def json(self, path: str, query: Any = None) -> Any:
        status, body = await self.ask("GET", path, query)
        assert status == 200, body
        return json.loads(body)


def with_caller(scenario: Any, **how: Any) -> None:
    async def scope() -> None:
        async with loopback(**how) as (server, base), aiohttp.ClientSession() as session:
            caller = Caller(base, session)
            await caller.enrol()
            await scenario(server, caller)

    asyncio.run(scope())


def test_the_official_client_reads_prices_in_batches() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        both, asked = [market.yes_token, market.no_token], [market.yes_token, market.no_token, FOREIGN]
        assert await client.get_midpoints(token_ids=asked) == dict.fromkeys(both, Decimal("0.5"))
        assert await client.get_spreads(token_ids=asked) == dict.fromkeys(both, Decimal("0.02"))
        requests = [PriceRequest(market.yes_token, "BUY"), PriceRequest(market.no_token, "SELL")]
        assert await client.get_prices(requests=[*requests, PriceRequest(FOREIGN, "BUY")]) == {
            market.yes_token: {"BUY": Decimal("0.49")},
            market.no_token: {"SELL": Decimal("0.51")},
        }
        assert await client.get_last_trade_prices(token_ids=asked) == ()
        await client.place_limit_order(token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(10), side="BUY")
        last = await client.get_last_trade_prices(token_ids=asked)
        assert {(t.asset_id, t.price, t.side) for t in last} == {
            (market.yes_token, Decimal("0.51"), "BUY"),
            (market.no_token, Decimal("0.49"), "SELL"),
        }
        (resting,) = [
            await client.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.1"), size=Decimal(10), side="BUY"
            )
        ]
        assert await client.get_order_scoring(order_id=resting.order_id) is False
        assert await client.get_orders_scoring(order_ids=[resting.order_id]) == {resting.order_id: False}

    play(scenario)


def test_batches_by_query_say_what_batches_by_body_say() -> None:
    async def scenario(server: VenueServer, caller: Caller) -> None:
        window = next(iter(server.state.windows.values()))
        tokens = f"{window.market.yes_token},{window.market.no_token},{FOREIGN}"
        body = json.dumps([{"token_id": t} for t in tokens.split(",")]).encode()
        for path in ("/midpoints", "/last-trades-prices"):
            assert await caller.ask("GET", path, {"token_ids": tokens}) == await caller.ask("POST", path, None, body)
        prices = await caller.json("/prices", {"token_ids": tokens, "sides": "BUY,SELL,BUY"})
        assert prices == {window.market.yes_token: {"BUY": "0.49"}, window.market.no_token: {"SELL": "0.51"}}

    with_caller(scenario)


def test_the_exchange_lists_its_markets_page_by_page() -> None:
    async def scenario(server: VenueServer, caller: Caller) -> None:
        market = next(iter(server.state.windows.values())).market
        await until(lambda: server.state.hall(market).resolved and len(server.state.windows) >= 5, 20)
        listed = [w.market.id for w in server.state.windows.values() if w.tape.begins <= server.state.now()]
        seen, cursor = list[Any](), "MA=="
        while cursor != "LTE=":
            page = await caller.json("/markets", {"next_cursor": cursor, "limit": "2"})
            assert page["count"] == len(page["data"]) <= page["limit"] == 2
            seen, cursor = seen + page["data"], page["next_cursor"]
        assert [row["condition_id"] for row in seen][: len(listed)] == listed
        first = seen[0]
        assert (first["closed"], first["accepting_orders"], first["neg_risk"]) == (True, False, False)
        assert [(t["price"], t["winner"]) for t in first["tokens"]] == [(1.0, True), (0.0, False)]
        assert await caller.json(f"/markets/{market.id}") == first
        sampling = (await caller.json("/sampling-markets"))["data"]
        assert sampling and market.id not in [row["condition_id"] for row in sampling]
        short = (await caller.json("/sampling-simplified-markets"))["data"]
        assert [row["condition_id"] for row in short] == [row["condition_id"] for row in sampling]
        (whole,) = (await caller.json("/simplified-markets", {"limit": "1"}))["data"]
        assert whole == {k: first[k] for k in whole} and len(whole) == 7
        assert await caller.json("/market-clarifications", {"market_id": "1"}) == []

    pace = Pace(resolving=timedelta(seconds=1))
    with_caller(scenario, series=[Flat(seconds=2)], pace=pace)


DEEP = b"[" * 100_000 + b"]" * 100_000
ODD_NUMBERS = ("abc", "-1", "1.5", "9" * 5000, "1e9", "²", "1_0", " 1")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/trades", "after"),
        ("/data/trades", "before"),
        ("/markets/keyset", "limit"),
        ("/markets/keyset", "after_cursor"),
        ("/events/keyset", "limit"),
        ("/prices-history", "fidelity"),
        ("/prices-history", "startTs"),
        ("/v2/prices-history", "bucket_seconds"),
        ("/v2/prices-history", "end"),
        ("/v2/activity", "limit"),
        ("/v2/activity", "start"),
        ("/v2/positions", "limit"),
        ("/v2/trades", "cursor"),
        ("/markets", "limit"),
        ("/market-clarifications", "offset"),
    ],
)
def test_a_number_that_is_none_is_refused_in_the_venues_words(path: str, name: str) -> None:
    async def scenario(server: VenueServer, caller: Caller) -> None:
        token = next(iter(server.state.tokens))
        sound = {"token_id": token, "market": token, "user": address_of(0)}
        if path == "/data/trades":
            sound = {}
        assert (await caller.ask("GET", path, sound))[0] == 200
        for odd in ODD_NUMBERS:
            status, body = await caller.ask("GET", path, sound | {name: odd})
            assert status == 400 and json.loads(body) == {"error": f"invalid {name}"}, odd

    with_caller(scenario)


def test_a_balance_is_of_an_asset_that_there_is() -> None:
    async def scenario(server: VenueServer, caller: Caller) -> None:
        token = next(iter(server.state.tokens))
        wrong = [
            {"asset_type": "CONDITIONAL", "token_id": "cash"},
            {"asset_type": "CONDITIONAL", "token_id": ""},
            {"asset_type": "CONDITIONAL-V2", "token_id": "cash"},
            {"asset_type": "DOLLARS", "token_id": token},
            {"token_id": token},
            {},
        ]
        for query in wrong:
            status, body = await caller.ask("GET", "/balance-allowance", query)
            assert status == 400 and "error" in json.loads(body), query
        assert (await caller.json("/balance-allowance", {"asset_type": "COLLATERAL"}))["balance"] == "1000000000"
        assert (await caller.json("/balance-allowance", {"asset_type": "CONDITIONAL", "token_id": token}))[
            "balance"
        ] == "0"

    with_caller(scenario)


@pytest.mark.parametrize("body", [DEEP, b'{"a":' * 50_000, b"\xff\xfe\x00", b"1" * 6000, b"nan", b"\x80"])
def test_a_body_that_is_no_json_is_refused_everywhere(body: bytes) -> None:
    async def scenario(server: VenueServer, caller: Caller) -> None:
        for method, path in sorted(routes(server, {"POST", "DELETE"})):
            status, _ = await caller.ask(method, path.replace("{address}", address_of(0)), None, body)
            assert status < 500, (method, path, status)

    with_caller(scenario)


def test_a_frame_that_is_nested_too_deeply_ends_the_connection_alone() -> None:
    async def scenario(server: VenueServer, caller: Caller) -> None:
        for path in ("/ws/market", "/ws/user", "/ws"):
            for frame in (
                "[" * 30_000,
                '{"assets_ids": 5, "markets": 5, "op": "subscribe"}',
                '{"auth": [1], "op": "auth"}',
            ):
                async with caller.session.ws_connect(caller.base + path) as socket:
                    await socket.send_str(frame)
                    assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
                    assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION

    with_caller(scenario)


def routes(server: VenueServer, methods: set[str]) -> set[tuple[str, str]]:
    """Every route of the venue, as method and path with its variables."""
    found = set()
    for route in server.application().router.routes():
        resource = route.resource
        if resource is not None and route.method in methods:
            found.add((route.method, resource.canonical))
    assert len(found) > 10
    return found


NAMES = (
    "token_id", "token_ids", "sides", "side", "market", "asset_id", "id", "slug", "condition_ids", "condition_id",
    "clob_token_ids", "after", "before", "limit", "offset", "after_cursor", "next_cursor", "cursor", "startTs", "endTs",
    "start", "end", "fidelity", "bucket_seconds", "interval", "closed", "user", "type", "sort_direction", "status",
    "asset_type", "signature_type", "address", "order_id", "exclude_deposits_withdrawals", "nonce",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["", "abc", "-1", "0", "1", "cash", "true", "LTE=", "MA==", "=", "COLLATERAL", "CONDITIONAL", "BUY", "DESC",
         "9" * 30, "9" * 4400, "1e400", "NaN", "null", "²", "\x00", "0x", "0x" + "00" * 20, address_of(0), "TOKEN",
         "CONDITION", "253402300800", ",,,"]
    ),
    st.text(max_size=20),
    st.integers(-(2**70), 2**70).map(str),
)  # fmt: skip
QUESTIONS = st.tuples(st.integers(0, 10**6), st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=5), VALUES)


# Not shrunk: each example is a venue of its own, and the assertion names the one question that failed.
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.lists(QUESTIONS, min_size=40, max_size=80))
def test_no_question_is_an_error_of_the_venues_own(questions: list[tuple[int, list[tuple[str, str]], str]]) -> None:
    async def scenario(server: VenueServer, caller: Caller) -> None:
        paths = sorted(path for _, path in routes(server, {"GET"}))
        market = next(iter(server.state.windows.values())).market
        known = {"TOKEN": market.yes_token, "CONDITION": market.id}
        for which, query, value in questions:
            filled = _filled(paths[which % len(paths)], known.get(value, value))
            status, body = await caller.ask("GET", filled, [(n, known.get(v, v)) for n, v in query])
            assert status < 500, (filled, query, body)
            # What is longer than a line of HTTP may be is refused before it is anybody's question.
            if status == 400 and not filled.startswith("/ws") and sum(len(v) for _, v in query) < 5000:
                assert "error" in json.loads(body), (filled, query)

    with_caller(scenario, series=[Flat(seconds=60)])


def _filled(path: str, value: str) -> str:
    """A path with its variable replaced by what may stand in one; what may not leaves it as it is."""
    before, brace, rest = path.partition("{")
    if not brace:
        return path
    kept = "".join(c for c in value if c.isascii() and c.isalnum()) or "0"
    return before + kept + rest.partition("}")[2]


KEYS = (
    "order", "owner", "orderType", "token_id", "side", "price", "size", "kind", "amount", "fault", "count", "seconds",
    "payout", "payouts", "heartbeat_id", "orderID", "market", "asset_id", "method", "params", "type", "from", "nonce",
    "depositWalletParams", "calls", "deadline", "signature",
)  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**300),
    st.floats(),
    st.sampled_from(
        ["", "BUY", "GTC", "deposit", "slow", "WALLET", "eth_call", "0x", "1e999999", "TOKEN", "CONDITION"]
    ),
    st.text(max_size=8),
)
BODIES = st.recursive(
    LEAVES,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inside, max_size=5),
    max_leaves=12,
)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.lists(st.tuples(st.integers(0, 10**6), BODIES), min_size=40, max_size=80))
def test_no_body_is_an_error_of_the_venues_own(bodies: list[tuple[int, Any]]) -> None:
    async def scenario(server: VenueServer, caller: Caller) -> None:
        known = sorted(routes(server, {"POST", "DELETE"}))
        market = next(iter(server.state.windows.values())).market
        names = {"TOKEN": market.yes_token, "CONDITION": market.id}
        for which, body in bodies:
            method, path = known[which % len(known)]
            filled = path.replace("{address}", address_of(0)).replace("{condition}", market.id)
            text = json.dumps(body)
            for name, stands_for in names.items():
                text = text.replace(f'"{name}"', f'"{stands_for}"')
            # Faults that were ordered on the way are answers of their own: they are asked about elsewhere.
            server.state.faults.clear()
            status, said = await caller.ask(method, filled, None, text.encode())
            assert status < 500, (method, filled, text, said)

    with_caller(scenario, series=[Flat(seconds=60)])
