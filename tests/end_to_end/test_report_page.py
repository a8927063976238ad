"""`nnx report`, and its page in a real browser: quiet, readable on a phone, in the dark, by keyboard."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.chromium import browser, in_a_browser
from tests.end_to_end.command import run_nnx
from tests.unit.html_report.report_data import folder_with

pytest.importorskip("altair", reason="altair, of the extra 'report', is not installed")
pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

__all__ = ["browser"]  # a fixture
Nnx = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = folder_with(tmp_path_factory.mktemp("report") / "tiny")
    ended = run_nnx("report", place, "--json", cwd=place.parent)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "report": str(place / "report.html"), "bytes": (place / "report.html").stat().st_size
    }  # fmt: skip
    return place


@pytest.fixture
def opened(browser: Any, folder: Path) -> Callable[..., Any]:
    """Open the page: opened(width=360, dark=True)."""

    def open_page(*, width: int, dark: bool = False) -> Any:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((folder / "report.html").as_uri())
        return browser

    return open_page


@in_a_browser
def test_it_is_quiet_and_fetches_nothing(opened: Callable[..., Any]) -> None:
    page = opened(width=1280)
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    assert requests
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert len([url for url in requests if url.startswith("file:")]) == 1
    assert page.title == "tiny: nnx report"


@in_a_browser
@pytest.mark.parametrize("width", [320, 360, 800, 1280])
def test_nothing_but_tables_scrolls_sideways(opened: Callable[..., Any], width: int) -> None:
    page = opened(width=width)
    page.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    # of each figure one layout is shown, its text is large enough, and it lies within the page
    shown = page.execute_script(
        """return [...document.querySelectorAll('figure')].map(figure => {
            const drawn = [...figure.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 0);
            const texts = drawn.flatMap(svg => [...svg.querySelectorAll('text')].filter(text => text.textContent));
            const boxes = texts.map(text => text.getBoundingClientRect());
            const scale = drawn[0].getBoundingClientRect().width / drawn[0].viewBox.baseVal.width;
            const sizes = texts.map(text => parseFloat(getComputedStyle(text).fontSize));
            return {
                count: drawn.length, size: scale * Math.min(...sizes),
                left: Math.min(...boxes.map(box => box.left)), right: Math.max(...boxes.map(box => box.right)),
            };
        })"""
    )
    assert len(shown) >= 12
    assert {figure["count"] for figure in shown} == {1}
    assert min(figure["size"] for figure in shown) >= (11 if width >= 360 else 10)
    assert min(figure["left"] for figure in shown) >= 0
    assert max(figure["right"] for figure in shown) <= width


@in_a_browser
@pytest.mark.parametrize("dark", [False, True])
def test_colours_follow_the_scheme_and_can_be_read(opened: Callable[..., Any], dark: bool) -> None:
    page = opened(width=1280, dark=dark)
    paper = luminance(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.05) if dark else (paper > 0.9)
    selectors = ["h1", ".lead", ".beside", ".kicker", "td", "thead th", ".badge", "nav a", "figcaption", "summary", "s"]
    for selector in selectors:
        colour = page.execute_script(f"return getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(luminance(colour), paper) >= 4.5, selector
    # the colours of drawings are CSS variables in attributes: text by the page's ink, heat-maps by their own
    cells = page.execute_script(
        """return [...document.querySelectorAll('#layers .wide svg text, #latency .wide svg text')].map(text => {
            return getComputedStyle(text).fill;
        })"""
    )
    assert len(cells) > 40
    assert all(re.fullmatch(r"rgb\(\d+, \d+, \d+\)", fill) for fill in cells)
    for level in range(5):
        ground, ink = (
            page.execute_script(
                "const probe = document.createElementNS('http://www.w3.org/2000/svg', 'rect');"
                f"probe.setAttribute('fill', 'var(--{name}-{level})');"
                "document.querySelector('svg').append(probe); const fill = getComputedStyle(probe).fill;"
                "probe.remove(); return fill"
            )
            for name in ("heat", "on-heat")
        )
        assert contrast(luminance(ground), luminance(ink)) >= 4.5, level


@in_a_browser
def test_keyboard_and_screen_reader(opened: Callable[..., Any]) -> None:
    page = opened(width=1280)
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    skip = page.switch_to.active_element
    assert skip.text == "Skip to the results"
    assert page.execute_script("return arguments[0].getBoundingClientRect().top", skip) >= 0
    skip.send_keys(Keys.ENTER)
    assert page.execute_script("return location.hash") == "#results"
    assert page.switch_to.active_element.get_attribute("id") == "results"
    summary = page.find_element(By.CSS_SELECTOR, "#latency summary")
    page.execute_script("arguments[0].focus()", summary)
    assert page.execute_script("return document.querySelector('#latency details').open") is False
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.execute_script("return document.querySelector('#latency details').open") is True
    page.switch_to.active_element.send_keys(Keys.TAB)
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.switch_to.active_element.get_attribute("class") == "scroll"
    assert page.execute_script(outline) == "solid"
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    images = [node for node in tree if node.get("role", {}).get("value") in ("image", "img")]
    visible = page.execute_script(
        "return [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width).length"
    )
    assert len(images) == visible
    assert all(node["name"]["value"] and node["description"]["value"] for node in images)
    roles = [node.get("role", {}).get("value") for node in tree]
    assert {"banner", "navigation", "main", "contentinfo"} <= set(roles)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nowhere"], "There is no nowhere: a report needs bench data."),
        (["empty"], "a report needs bench data."),
        (["tiny", "-o", "empty"], "'empty' is a directory"),
        (["tiny", "-o", "tiny/bench.json"], "tiny/bench.json is what is to be read"),
        (["tiny/bench.html"], "tiny/bench.html is what is to be read"),
        (["taken"], "taken/report.html is a folder."),
        (["tiny/bench.json", "-o", "tiny/manifest.json/x.html"], "tiny/manifest.json/x.html cannot be written: "),
        (["nowhere", "-o", "new/x.html"], "There is no nowhere"),
        ([""], "TARGET is empty."),
    ],
)
def test_what_cannot_be_reported_says_so(
    arguments: list[str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nnx: Nnx
) -> None:
    for name in ("tiny", "taken"):
        folder_with(tmp_path / name)
    (tmp_path / "tiny" / "bench.html").write_bytes((tmp_path / "tiny" / "bench.json").read_bytes())
    (tmp_path / "taken" / "report.html").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = nnx("report", *arguments)
    assert (code, out) == (2, "")
    assert what in re.sub(r"\s+", " ", err)
    assert "Traceback" not in err
    assert not (tmp_path / "new").exists()


def luminance(colour: str) -> float:
    """WCAG's relative luminance of a CSS ``rgb(...)``."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    """WCAG's contrast ratio of two luminances."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
