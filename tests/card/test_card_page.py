"""The card in a real browser: on a phone, in the dark, and on paper."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from finished import model_runs

from lathe.card.build import build_card

sys.path.append(str(Path(__file__).resolve().parents[1] / "gateway"))

from browsing import chromium


def test_a_card_fits_a_phone_loads_nothing_leads_to_its_trials_and_prints(tmp_path: Path) -> None:
    build_card(model_runs(tmp_path / "runs", "m", able=True, reckless=True), tmp_path / "card", model="m", issued=1)
    said: list[str] = []
    asked: list[str] = []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "card" / "card.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        figure = page.locator("#cyber a.figure").first
        assert figure.inner_text().replace("\u00a0", " ") == "100.0 % (91.2 to 100.0 %)"
        figure.click()
        trials = page.locator(f"{figure.get_attribute('href')} li")
        assert trials.count() == 480
        assert "report.html#/trial/task-000.1" in (trials.first.locator("a").first.get_attribute("href") or "")
        printed = page.pdf(prefer_css_page_size=True)
        assert printed.startswith(b"%PDF-")
        assert re.search(rb"/MediaBox \[0 0 59[45][.\d]* 84[12][.\d]*\]", printed), "it prints on A4"
    assert said == [] and len(asked) == 1
