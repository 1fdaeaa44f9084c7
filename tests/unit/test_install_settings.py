"""Settings merged into an owner's file: nothing of it is lost, and doing it twice does it once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agent.install import execute
from agent.install.settings import WriteSettings
from market.errors import Misconfigured

VALUES = {"edge": {"runtime": "mlc", "mlc": {"port": 1, "device": "cuda:0"}}}
OWN = "# my notes\nedge:\n  runtime: auto  # for now\n  mlc: {port: 9, extra: 1}\nrisk: {order: 5}\n"


def test_a_new_file_holds_the_settings(tmp_path: Path) -> None:
    step = WriteSettings(tmp_path / "new" / "c.yaml", VALUES)
    assert not step.done() and "runtime: mlc" in step.describe() and not (tmp_path / "new").exists()
    execute([step])
    assert yaml.safe_load(step.file.read_text()) == VALUES and step.done()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["c.yaml"]


def test_an_owners_file_is_merged_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(OWN)
    file.chmod(0o600)
    step = WriteSettings(file, VALUES)
    assert "c.yaml.bak" in step.describe()
    execute([step])
    merged = {"edge": {"runtime": "mlc", "mlc": {"port": 1, "extra": 1, "device": "cuda:0"}}, "risk": {"order": 5}}
    assert yaml.safe_load(file.read_text()) == merged
    assert (tmp_path / "c.yaml.bak").read_text() == OWN
    assert file.read_text().startswith("# The comments of the file before") and "c.yaml.bak" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert step.done()
    execute([step])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "c.yaml.bak"]
    execute([WriteSettings(file, {"edge": {"runtime": "auto"}})])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "c.yaml.bak", "c.yaml.bak2"]


@pytest.mark.parametrize("text", ["edge: [", "edge: 3\n", "just words"])
def test_a_file_that_cannot_be_merged_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(Misconfigured):
        execute([WriteSettings(file, VALUES)])
    assert file.read_text() == text and [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
