"""Pages as a reader's browser shows them: offline, in a wide and a narrow window, and on paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from agent.reports.plots import drawable
from tests.e2e.conftest import Edgeclaw

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
MEASURE = "<script>document.title = [document.documentElement.scrollWidth, innerWidth].join()</script>"


def browse(place: Path, *asked: str) -> str:
    """Output of headless Chromium; every name it asks for is unknown to it."""
    call = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={place}"]
    call += ["--host-resolver-rules=MAP * ~NOTFOUND", *asked]
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(not BROWSER, reason="there is no Chromium here: apt-get install chromium")
@pytest.mark.skipif(not drawable(), reason="the extra research is not installed")
@pytest.mark.usefixtures("sample")
def test_a_backtest_page_fits_wide_and_narrow_windows_and_prints(edgeclaw: Edgeclaw, tmp_path: Path) -> None:
    from matplotlib.image import imread

    out = tmp_path / "out"
    done = edgeclaw("backtest", "--trade-with", "late_favourite", "--trade-with", "threshold", "--out", str(out))
    assert done.code == 0, done.err
    page, measured = out / "report.html", tmp_path / "measured.html"
    measured.write_text(page.read_text(encoding="utf-8").replace("</html>", f"{MEASURE}</html>"), encoding="utf-8")
    for width in (1280, 640):
        dom = browse(tmp_path / "profile", f"--window-size={width},900", "--dump-dom", measured.as_uri())
        wide, screen = map(int, re.findall(r"<title>(\d+),(\d+)</title>", dom)[0])
        assert wide <= screen, (width, wide)
    shot, paper = tmp_path / "page.png", tmp_path / "page.pdf"
    browse(tmp_path / "profile", "--window-size=1280,2000", f"--screenshot={shot}", page.as_uri())
    seen = np.asarray(imread(shot))[..., :3]
    assert seen.shape[:2] == (2000, 1280)
    rows = np.any(seen < 0.9, axis=(1, 2)).astype(float)
    assert rows[:400].mean() > 0.1 and rows[-600:].mean() > 0.1, "text at the top and more of it further down"
    hues = {tuple(c) for c in np.round(seen[::4, ::4].reshape(-1, 3), 1).tolist()}
    assert len(hues) > 12, "the figures have their colours"
    browse(tmp_path / "profile", f"--print-to-pdf={paper}", "--no-pdf-header-footer", page.as_uri())
    sheets = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))
    assert 2 <= sheets <= 12
