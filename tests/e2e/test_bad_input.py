"""Bad input ends in one plain sentence and the right exit code."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Edgeclaw, Ran

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def one_sentence(ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, (ran.code, ran.err)
    assert ran.err.startswith("edgeclaw: ") and ran.err.count("\n") == 1 and "Traceback" not in ran.err
    for word in words:
        assert word in ran.err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("run", "--mode", "live"), 3, ("No key", "--key-file")),
        (("run", "--mode", "demo"), 2, ("paper or live",)),
        (("run", "--mode", "live", "--venue", "http://192.0.2.1:80"), 2, ("not the address of a loopback venue",)),
        (("run", "--mode", "live", "--venue", "http://127.0.0.1:9"), 5, ("edgeclaw venue serve",)),
        (("run", "--mode", "live", "--trade-with", "hope"), 2, ("late_favourite",)),
        (("venue", "serve", "--books", "/no/such/folder"), 2, ("/no/such/folder",)),
        (("run", "--inference", "cloud"), 2, ("--inference",)),
        (("run", "--speed", "fast"), 2, ("--speed",)),
        (("run", "--tree-search", "deep=3"), 2, ("depth=",)),
        (("run", "--tree-search", "depth=9"), 2, ("edge.tree_search.depth",)),
        (("run", "--cycles", "0"), 2, ("--cycles",)),
        (("run", "--feed", "/no/such/folder"), 2, ("/no/such/folder",)),
        (("run", "--feed", __file__), 2, ("test_bad_input.py", "btc5m_ladder_*.csv.gz")),
        (("run", "--config", "/no/such/file.yaml"), 2, ("/no/such/file.yaml",)),
        (("run", "--model", "/no/such/model.gguf"), 2, ("/no/such/model.gguf", "GGUF")),
        (("run", "--model", "gpt-17"), 2, ("gpt-17", "smollm2-135m")),
        (("log", "list"), 3, ("edgeclaw run",)),
        (("log", "replay"), 2, ("--all",)),
        (("config", "check", "/"), 2, ("cannot be read",)),
        (("frobnicate",), 2, ("frobnicate",)),
    ],
)
def test_said_plainly(args: tuple[str, ...], code: int, words: tuple[str, ...], edgeclaw: Edgeclaw) -> None:
    one_sentence(edgeclaw(*args), code, *words)


@pytest.mark.parametrize("args", [("run", "--cycles", "0"), ("log", "list"), ("log", "list", "--json")])
def test_a_process_of_its_own_says_the_same(
    args: tuple[str, ...], edgeclaw: Edgeclaw, edgeclaw_process: Edgeclaw
) -> None:
    """The other tests here call the entry point inside of theirs."""
    assert edgeclaw_process(*args) == edgeclaw(*args)


def test_an_unknown_configuration_key(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("edge: {modle: x}\n")
    one_sentence(edgeclaw("run", "--config", str(file)), 2, "'edge.modle'", "'edge.model'")
    one_sentence(edgeclaw("config", "check", str(file)), 2, "'edge.modle'")


def test_the_missing_model_names_the_verb_that_installs_it(edgeclaw: Edgeclaw) -> None:
    one_sentence(edgeclaw("run", "--cycles", "1"), 3, "edgeclaw install edge-runtime")


def test_errors_are_json_where_json_was_asked_for(edgeclaw: Edgeclaw) -> None:
    ran = edgeclaw("log", "list", "--json")
    assert ran.code == 3 and ran.err.startswith('{"error"') and '"exit_code": 3' in ran.err


@pytest.mark.skipif(not DATA.exists(), reason="the recorded books are not beside the checkout")
def test_a_damaged_recording(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    day = next(DATA.glob("btc5m_book_l5_*-14.parquet"))
    folder = tmp_path / "books"
    folder.mkdir()
    shutil.copy(DATA / "btc5m_book_markets.csv", folder)
    (folder / day.name).write_bytes(day.read_bytes()[:100_000])
    one_sentence(edgeclaw("run", "--engine", "scripted", "--feed", str(folder)), 2, day.name)


def test_an_empty_folder(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    one_sentence(edgeclaw("run", "--engine", "scripted", "--feed", str(tmp_path)), 2, str(tmp_path))


@pytest.mark.parametrize("verb", ["install edge-runtime", "run", "log list", "log show", "log replay", "log verify",
                                  "config show", "config check", "config schema", "doctor"])  # fmt: skip
def test_every_verb_has_help_with_an_example_and_json(verb: str, edgeclaw: Edgeclaw) -> None:
    ran = edgeclaw(*verb.split(), "--help")
    assert ran.code == 0 and f"Example: edgeclaw {verb.split()[0]}" in ran.out and "--json" in ran.out
