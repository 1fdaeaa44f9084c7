"""The review site as a reader meets it: a process that serves a log, asked over HTTP and looked at in Chromium."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `review` is not installed")
pytest.importorskip("uvicorn", reason="the extra `review` is not installed")

from agent.host.egress import confined
from agent.live.status import status
from agent.review.reading import run_named
from agent.review.serving import beside, reviewing
from agent.review.site import PAGE
from agent.review.standing import standing
from agent.review.versus import versus
from market.clock import WallClock
from market.errors import Misconfigured, NotReady
from storage.records import DecisionFilter, Sorting
from storage.store import open_store
from tests.integration.test_trading import planted, play
from tests.running import EDGECLAW, Agent, free_port, until, venue
from tools.halts import KillSwitch

CHROMIUM = shutil.which("chromium")
SCREENS = Path("test-artefacts")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run that found a planted effect and traded on it."""
    path = tmp_path_factory.mktemp("review") / "e.db"
    play(path, planted())
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def site(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = tmp_path_factory.mktemp("config") / "c.yaml"
    config.write_text(json.dumps({"storage": {"url": database}}))
    serve = [*EDGECLAW, "log", "serve", "--listen", "127.0.0.1:0", "--json", "--config", str(config)]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"].rstrip("/")
        finally:
            process.kill()


def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - a loopback address
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - a loopback address
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


class Links(HTMLParser):
    """Every address a page leads to, and every name it lets be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.add(value)
            if name == "id" and value:
                self.names.add(value)


def test_every_link_of_every_page_leads_somewhere(site: str) -> None:
    seen, waiting = set[str](), ["/"]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        status, text, headers = asked(site + path)
        assert status == 200, path
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        if path.startswith("/static/"):
            continue
        assert "http://" not in text and "https://" not in text, "nothing is asked of any other place"
        page = Links(text)
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in page.names, (path, link)
            elif link not in seen and link not in waiting and len(seen) < 150:
                waiting.append(link)
    assert sum(path.startswith("/decisions/") for path in seen) > 50


def test_filters_and_orders_are_those_of_the_log(site: str, database: str) -> None:
    async def listed(sorting: Sorting) -> list[str]:
        async with open_store(database, read_only=True) as store:
            return [d.id for d in await store.listed(DecisionFilter(traded=True), sorting=sorting)]

    for sorting in (Sorting.NEWEST, Sorting.LOST_MOST):
        _, text, _ = asked(f"{site}/decisions?traded=yes&sort={sorting.value}")
        shown = [link.split("/")[2].split("?")[0] for link in _in_order(text) if link.startswith("/decisions/")]
        assert shown == asyncio.run(listed(sorting))
    for nonsense in ("sort=worst", "below=much", "since=now", "after=-3", "after=" + "9" * 30, "searched=perhaps"):
        assert asked(f"{site}/decisions?{nonsense}")[0] == 200


def _in_order(text: str) -> list[str]:
    return [part.split('"')[0] for part in text.split('<td><a href="')[1:]]


def test_what_the_page_of_a_decision_says_is_what_the_log_holds(site: str, database: str) -> None:
    async def newest() -> Any:
        async with open_store(database, read_only=True) as store:
            (summary,) = await store.listed(DecisionFilter(traded=True), limit=1)
            return summary, await store.decision(None, summary.id)

    summary, record = asyncio.run(newest())
    _, text, _ = asked(f"{site}/decisions/{summary.id}")
    decision = record.body["thought"]
    for said in (
        f"{decision['mid']:.3f}",
        f"{decision['probability']:.3f}",
        record.hash,
        "Up",
        decision["search"]["words"],
    ):
        assert said in text
    assert text.count('class="node ') == len(decision["search"]["nodes"])
    built = text.split('class="waterfall"')[1].split("</svg>")[0]
    path = [
        c["claim"] for c in decision["search"]["path"] if c["verdict"] == "supported" and c["claim"]["effect"] != "none"
    ]
    assert path and all(f"{claim['feature']} {claim['bucket']}" in built for claim in path)
    assert f">{decision['arms']['mid']:.4f}<" in built and f">{decision['probability']:.4f} (" in built
    before = built[: built.index(f">{decision['probability']:.4f} (")]
    assert f"{decision['arms']['correct']:.4f} (" in before, (
        "the claims lead to the belief, and calibration goes on from it"
    )
    assert 'class="chance"' in text and "p-value" in text
    assert f"+${summary.profit / 1e6:,.2f}" in text


def test_what_if_without_a_change_is_what_was_decided_and_a_dear_fee_is_not_paid(site: str, database: str) -> None:
    async def scope() -> list[tuple[str, Any]]:
        async with open_store(database, read_only=True) as store:
            found = await store.listed(DecisionFilter(searched=True), limit=40)
            return [(d.id, (await store.decision(None, d.id)).body["thought"]) for d in found]

    for name, decision in asyncio.run(scope()):
        _, text, _ = asked(f"{site}/decisions/{name}")
        said = text.split('id="whatif"')[1].split("</section>")[0]
        assert f'tag {decision["action"]}"' in said and f"<b>{decision['probability']:.4f}</b>" in said
        _, dear, _ = asked(f"{site}/decisions/{name}?fee=0.9")
        assert 'tag abstain"' in dear.split('id="whatif"')[1]
        _, timid, _ = asked(f"{site}/decisions/{name}?shrink=0")
        assert 'tag abstain"' in timid.split('id="whatif"')[1], "claims without weight are no edge"
        assert asked(f"{site}/decisions/{name}?fee=x&threshold=-1&shrink=99")[1] == text


def test_two_decisions_are_compared_place_by_place(site: str, database: str) -> None:
    async def two() -> tuple[str, str]:
        async with open_store(database, read_only=True) as store:
            first, second = await store.listed(DecisionFilter(searched=True), limit=2)
            return first.id, second.id

    first, second = asyncio.run(two())
    _, text, _ = asked(f"{site}/compare?a={first}&b={second}")
    assert "differs" in text and "inputs: was" in text
    assert "identical to the byte" in asked(f"{site}/compare?a={first}&b={first}")[1]
    assert asked(f"{site}/compare?a={first}")[0] == 200 and asked(f"{site}/compare?a={first}&b=zz")[0] == 404


def test_two_runs_are_compared_on_what_both_decided(tmp_path: Path) -> None:
    """The same windows, once with less weight for what claims say."""
    bold = play(tmp_path / "e.db", planted()).run
    timid = play(tmp_path / "e.db", planted(), **{"trading.shrink": 0.05}).run

    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}", read_only=True) as store:
            same, found = await versus(store, timid, timid), await versus(store, timid, bold)
            assert same.shared == await store.count(DecisionFilter(run_id=timid.id)) and list(same.parted) == []
            assert same.gain is not None and same.gain.mean == same.gain.high == 0
            assert found.shared == same.shared and 0 < len(found.parted) < found.shared
            back = await versus(store, bold, timid)
            assert found.gain is not None and back.gain is not None
            assert back.gain.mean == pytest.approx(-found.gain.mean)
            async with reviewing(store, "127.0.0.1:0") as served:
                link = f"{served.url.rstrip('/')}/compare/runs?a={timid.id}&b={bold.id}"
                status, text, _ = await asyncio.to_thread(asked, link)
            assert status == 200 and "the second forecasts" in " ".join(text.split())
            assert text.count("/compare?a=") == min(len(found.parted), PAGE)

    asyncio.run(scope())


def test_nothing_can_be_changed_and_nobody_else_is_answered(site: str) -> None:
    assert asked(site, "POST")[0] == 405
    assert asked(site, Host="evil.example")[0] == 421
    status, said, _ = asked(f"{site}/decisions/ffffffffffff")
    assert status == 404 and "no decision's id begins" in said and "Traceback" not in said
    assert asked(f"{site}/decisions?run=nosuch")[0] == 404
    assert asked(f"{site}/static/../site.py")[0] == 404
    assert asked(f"{site}/decisions?market=<script>alert(1)</script>")[1].count("<script") == 1


def test_beyond_this_machine_a_token_is_needed(database: str) -> None:
    async def scope() -> None:
        async with open_store(database, read_only=True) as store, reviewing(store, "0.0.0.0:0") as served:
            port = served.url.split(":")[2].split("/")[0]
            here = f"http://127.0.0.1:{port}"
            assert (await asyncio.to_thread(asked, here))[0] == 403
            assert (await asyncio.to_thread(asked, f"{here}/?token=guess"))[0] == 403
            known = await asyncio.to_thread(asked, here, Cookie=f"edgeclaw={served.token}")
            assert known[0] == 200
            for listen, error in (("nowhere", Misconfigured), (f"127.0.0.1:{port}", NotReady)):
                with pytest.raises(error):
                    async with reviewing(store, listen):
                        pass

    asyncio.run(scope())


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_beside_a_run_the_token_is_in_a_file_of_the_owners_and_nowhere_else(
    database: str, listen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told goes on into health, logs and MQTT."""
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    file, told = tmp_path / "review.url", list[str]()
    file.write_text("of a run that was killed")
    file.chmod(0o644)

    async def scope() -> None:
        with confined([]):
            async with beside(database, listen, told.append):
                url = file.read_text().strip()
                assert file.stat().st_mode & 0o777 == 0o600
                place, _, token = url.partition("?token=")
                assert len(token) >= 32 and not any(token in said for said in told)
                assert told == [f"read the log at {place} with the token in {file}"]
                here = f"http://127.0.0.1:{place.rsplit(':', 1)[1]}"
                assert (await asyncio.to_thread(asked, here))[0] == 403
                assert (await asyncio.to_thread(asked, here, Cookie=f"edgeclaw={token}"))[0] == 200
                assert (await asyncio.to_thread(asked, here, Host="evil.example", Cookie=f"edgeclaw={token}"))[0] == 421
        assert not file.exists()

    asyncio.run(scope())


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_beside_a_run_on_this_machine_no_token_is_needed(
    database: str, listen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    told = list[str]()

    async def scope() -> None:
        with confined([]):
            async with beside(database, listen, told.append):
                assert (await asyncio.to_thread(asked, told[0].removeprefix("read the log at ")))[0] == 200
                assert "token" not in told[0]

    asyncio.run(scope())


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "no.such.name.invalid:0"])
def test_beside_a_run_an_address_that_is_not_here_is_one_sentence(database: str, listen: str) -> None:
    async def scope() -> None:
        with confined([]):
            async with beside(database, listen, lambda _: None):
                pass

    with pytest.raises(NotReady, match="cannot be listened on") as said:
        asyncio.run(scope())
    assert said.value.next_step == "Choose another service.review."


def test_a_run_prints_where_it_is_read_and_never_the_token(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"service": {"review": "0.0.0.0:0"}}))
    words = [*EDGECLAW, "run", "--engine", "scripted", "--cycles", "1", "--config", str(config)]
    ran = subprocess.run(
        words, env={**os.environ, "EDGECLAW_HOME": str(tmp_path / "home")}, capture_output=True, text=True, check=False
    )
    said = " ".join((ran.stdout + ran.stderr).split())
    assert ran.returncode == 0 and "read the log at http://0.0.0.0:" in said and "with the token in" in said
    assert "token=" not in said and not (tmp_path / "home" / "review.url").exists()


def test_the_overview_states_the_exposure_and_when_nothing_was_decided(tmp_path: Path) -> None:
    """Unsettled purchases of the account, and the slots of the time between two processes."""
    with venue(speed=30) as (url, _):
        trader = Agent(url, tmp_path / "home", ("agent", "late_favourite"))
        with trader.running() as process:
            until("something is decided", lambda: trader.happened("decision/made"))
            until("something is bought", lambda: trader.happened("order/filled"))
            known = len(trader.happened("decision/made"))
            process.terminate()
            assert process.wait(120) == 130
        time.sleep(12)  # a slot and more, at this speed
        with trader.running() as process:
            until("it goes on", lambda: len(trader.happened("decision/made")) > known)
            process.terminate()
            assert process.wait(120) == 130
        database = f"sqlite:///{trader.home / 'edgeclaw.db'}"

        async def look() -> tuple[Any, Any, str]:
            async with open_store(database, read_only=True) as store:
                run = await run_named(store, "")
                seen = await standing(store, run)
                (account,) = (await status(store, KillSwitch(trader.home), WallClock().now())).accounts
                async with reviewing(store, "127.0.0.1:0") as served:
                    return seen, account, (await asyncio.to_thread(asked, served.url))[1]

        seen, account, text = asyncio.run(look())
        assert (seen.exposure, seen.working) == (account.at_risk, account.working)
        assert [m.reason for m in seen.missed][:1] == ["stopped"] and seen.slots_missed >= 1
        assert f"${seen.exposure / 1e6:,.2f}" in text and "stopped: " in text


def test_it_is_read_beside_a_run_that_goes_on(tmp_path: Path) -> None:
    """A decision shows on the page that is open already, as soon as it is written down."""
    port = free_port()
    with venue() as (url, _):
        trader = Agent(url, tmp_path / "home", ("agent",), {"service": {"review": f"127.0.0.1:{port}"}})
        with trader.running() as process:
            until("something is decided", lambda: trader.happened("decision/made"))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/tail", timeout=60) as tail:
                known = len(trader.happened("decision/made"))
                line = next(said for said in tail if said.startswith(b"data: "))
            name = trader.happened("decision/made")[known]["decision_id"]
            assert f"/decisions/{name}" in json.loads(line[6:])
            assert asked(f"http://127.0.0.1:{port}/decisions/{name}")[0] == 200
            process.terminate()
            assert process.wait(120) == 130


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian package chromium)")
def test_the_pages_work_in_a_browser(site: str) -> None:
    """By keyboard, in light and dark, on a small screen and on paper; nothing is refused and nothing fails."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    SCREENS.mkdir(exist_ok=True)
    with playwright.sync_playwright() as play_it:
        browser = play_it.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            complaints: list[str] = []

            def must_be_accessible(where: Any) -> None:
                """By the rules of axe-core."""
                found = axe.Axe().run(where).response["violations"]
                complaints.extend(f"{v['id']}: {v['nodes'][0]['html'][:160]}" for v in found)

            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(site)
            assert page.locator("h1").inner_text().startswith("agent")
            page.screenshot(path=SCREENS / "overview.png", full_page=True)
            must_be_accessible(page)
            page.click("nav >> text=Decisions")
            must_be_accessible(page)
            assert page.locator("table.list tbody tr").count() == 60
            page.screenshot(path=SCREENS / "decisions.png")
            page.keyboard.press("j")
            page.keyboard.press("j")
            second = page.locator("table.list tbody tr").nth(1).locator("a").get_attribute("href")
            page.keyboard.press("Enter")
            page.wait_for_url(f"**{second}")
            node = page.locator(".tree a").nth(2)
            node.click()
            assert page.locator("details.claims").get_attribute("open") is not None, "a node opens its claim"
            page.screenshot(path=SCREENS / "decision.png", full_page=True)
            must_be_accessible(page)
            page.emulate_media(color_scheme="dark")
            must_be_accessible(page)
            page.screenshot(path=SCREENS / "decision-dark.png", full_page=True)
            page.set_viewport_size({"width": 390, "height": 800})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, "a small screen need not scroll sideways"
            page.screenshot(path=SCREENS / "decision-small.png", full_page=True)
            must_be_accessible(page)
            assert page.pdf()[:4] == b"%PDF"
            page.click("text=compare")
            must_be_accessible(page)
            page.screenshot(path=SCREENS / "compare.png")
            page.set_viewport_size({"width": 1280, "height": 900})
            page.click("text=two runs")
            page.click("button >> text=Compare")
            assert "None: both decided the same each time." in page.locator("main").inner_text()
            must_be_accessible(page)
            page.screenshot(path=SCREENS / "compare-runs.png")
            assert complaints == []
        finally:
            browser.close()
