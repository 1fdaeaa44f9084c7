"""A file of single offsets through the command line."""

from pathlib import Path

from tests.e2e.conftest import Edgeclaw
from tests.unit.test_btc5m_ladder import rows, written


def test_a_file_is_decided_on_at_every_instant_and_says_what_it_is(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    ran = edgeclaw("run", "--feed", written(tmp_path, rows(3)), "--engine", "scripted", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["data"] == "btc5m_ladder_2026-07-26_27.csv.gz" and ran.json["funnel"]["cycles"] == 15
    assert any("20 s slow" in note for note in ran.json["notes"])
    again = edgeclaw("run", "--feed", str(tmp_path / ran.json["data"]), "--engine", "scripted", "--json")
    assert again.json["appended"] == 0 and again.json["run_id"] == ran.json["run_id"]
