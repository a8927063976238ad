"""The page in a package, in a real browser: tests itself as it loads, and answers as the Python runner does."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contract.shipping.test_contents import sentiment
from tests.end_to_end.chromium import browser, in_a_browser
from tests.end_to_end.test_report_page import contrast, luminance
from toolchain.shipping import checksums, contents, keys, packing, self_test, signature
from toolchain.shipping.packing import Title
from toolchain.shipping.targets import TARGETS

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

__all__ = ["browser"]  # a fixture
MODULES = os.environ.get("NNX_TEST_NODE_MODULES")
Open = Callable[..., Any]
pytestmark = [
    in_a_browser,
    pytest.mark.slow,
    pytest.mark.skipif(MODULES is None, reason="NNX_TEST_NODE_MODULES does not say where onnxruntime-web is"),
]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Python's own server, with the headers that threads need."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """(a folder with the package of digits, one of sentences, and onnxruntime-web; its address)."""
    folder = tmp_path_factory.mktemp("served")
    found = contents.of_folder(digits)
    packing.pack(found, folder / "digits.ortpackage", Title(name="digits"), targets=[TARGETS["web"]])
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        lines = [
            f"{'a fine' if number % 2 else 'no good'} film , take {number}\t{number % 2}\n" for number in range(20)
        ]
        (folder / name).write_text("".join(lines))
    found = contents.of_models([sentiment(folder / "net.onnx")], samples_source="sst2", data_folder=folder)
    packing.pack(found, folder / "film.ortpackage", Title(name="film"), targets=[TARGETS["web"]])
    (folder / "node_modules").symlink_to(str(MODULES), target_is_directory=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def opened(browser: Any, served: tuple[Path, str]) -> Open:
    """opened("digits", "?threads=2", width=360, dark=True) -> the page, its self-test done."""

    def open_page(package: str, query: str = "", *, width: int = 1000, dark: bool = False) -> Any:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get_log("performance"), browser.get_log("browser")
        browser.get(f"{served[1]}/{package}.ortpackage/runners/web/{query}")
        WebDriverWait(browser, 60).until(lambda page: text(page, "state") not in ("opening", "testing"))
        return browser

    return open_page


def text(page: Any, identifier: str) -> str:
    return str(page.execute_script(f"return document.getElementById('{identifier}').textContent"))


def receipt(page: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(text(page, "receipt"))
    return told


def shown(page: Any) -> tuple[str, dict[str, float]]:
    """(the answer, the scores that stand beside)."""
    WebDriverWait(page, 20).until(lambda _: page.find_elements(By.CSS_SELECTOR, "#said > b"))
    lines = page.find_elements(By.CSS_SELECTOR, ".score")
    scores = {each.text.splitlines()[0]: float(each.text.splitlines()[-1]) for each in lines}
    return page.find_element(By.CSS_SELECTOR, "#said > b").text, scores


def by_python(package: Path, given: str) -> dict[str, Any]:
    command = [sys.executable, str(package / self_test.RUNNER), given]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return told


@pytest.mark.parametrize("threads", [1, 2])
def test_it_tests_itself_quietly_and_asks_nobody_else(opened: Open, served: tuple[Path, str], threads: int) -> None:
    page = opened("digits", f"?threads={threads}")
    told, theirs = receipt(page), self_test.run(served[0] / "digits.ortpackage")
    assert text(page, "state") == "passed its self-test"
    assert [each["name"] for each in told["checks"]] == [each["name"] for each in theirs["checks"]]
    assert all(each["ok"] for each in told["checks"])
    assert (told["digest"], set(told["variants"])) == (theirs["digest"], set(theirs["variants"]))
    assert f"{threads} thread" in text(page, "where")
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    assert any("model.onnx" in url for url in requests)
    assert all(url.startswith((served[1], "data:", "blob:")) for url in requests)


def test_one_variant_alone_is_tested_where_it_is_named(opened: Open) -> None:
    assert set(receipt(opened("digits", "?variant=fp32"))["variants"]) == {"fp32"}
    page = opened("digits", "?variant=int4")
    assert "There is no variant 'int4'." in text(page, "wrong")


@pytest.mark.parametrize(("size", "mode"), [((8, 8), "L"), ((57, 31), "RGB"), ((300, 200), "RGB"), ((5, 3), "RGB")])
def test_a_picture_gets_the_answer_that_python_gives(
    opened: Open, served: tuple[Path, str], tmp_path: Path, size: tuple[int, int], mode: str
) -> None:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = np.random.default_rng(sum(size)).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    page = opened("digits", "?variant=fp32")
    page.execute_script("document.getElementById('variant').value = 'fp32'")
    page.find_element(By.ID, "file").send_keys(str(tmp_path / "picture.png"))
    answer, scores = shown(page)
    package = served[0] / "digits.ortpackage"
    command = [sys.executable, str(package / self_test.RUNNER), str(tmp_path / "picture.png"), "--variant", "fp32"]
    want = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert answer == want["answer"]
    assert scores == pytest.approx(want["scores"], abs=0.0011)  # three digits are shown


def test_what_is_no_picture_is_called_so(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_text("this is no picture")
    page = opened("digits", "?variant=fp32")
    page.find_element(By.ID, "file").send_keys(str(tmp_path / "picture.png"))
    WebDriverWait(page, 20).until(lambda _: "That is no picture." in text(page, "wrong"))


def test_a_sentence_gets_the_answer_that_python_gives(opened: Open, served: tuple[Path, str]) -> None:
    page = opened("film")
    assert sum(each["name"].startswith("preprocessing") for each in receipt(page)["checks"]) == 7
    for sentence in ("A FINE film , take 3", "no good !", ""):
        page.execute_script("document.getElementById('answer').replaceChildren()")
        page.execute_script(
            "const box = document.getElementById('sentence'); box.value = arguments[0];"
            "box.dispatchEvent(new Event('input'))",
            sentence,
        )
        answer, scores = shown(page)
        want = by_python(served[0] / "film.ortpackage", sentence)
        assert answer == want["answer"]
        assert scores == pytest.approx(want["scores"], abs=0.0011)


def test_an_example_is_answered_at_a_click(opened: Open) -> None:
    page = opened("digits", "?variant=fp32")
    page.find_elements(By.CSS_SELECTOR, "#examples button")[1].click()
    assert shown(page)[0].isdigit()


def test_harm_is_found_and_named(opened: Open, served: tuple[Path, str]) -> None:
    folder = served[0]
    harmed = Path(shutil.copytree(folder / "film.ortpackage", folder / "harmed.ortpackage"))
    (harmed / "README.md").unlink()
    golden = harmed / "nnx" / "golden.bin"
    golden.write_bytes(golden.read_bytes()[:-4] + b"\0\0\x80\x7f")
    page = opened("harmed")
    assert text(page, "state") == "failed its self-test"
    failed = {each["name"]: each["detail"] for each in receipt(page)["checks"] if not each["ok"]}
    assert failed["files"] == "missing: README.md; changed: nnx/golden.bin"
    assert "golden fp32" in failed or "golden net" in failed
    assert "missing: README.md" in text(page, "failed")


def test_the_signature_is_looked_at_where_a_key_is_trusted(opened: Open, served: tuple[Path, str]) -> None:
    folder = served[0]
    pair = keys.new(folder / "release")
    signed = Path(shutil.copytree(folder / "film.ortpackage", folder / "signed.ortpackage"))
    signature.sign(signed, pair.private)

    def found() -> dict[str, tuple[bool, str]]:
        told = receipt(opened("signed", "?trust=/release.pub"))
        return {each["name"]: (each["ok"], each["detail"]) for each in told["checks"]}

    assert found()["signature"] == (True, f"by {pair.fingerprint}")
    (signed / "README.md").write_text("changed")
    checksums.write(signed)
    assert found()["signature"] == (False, "changed: README.md; changed: SHA256SUMS")
    assert "no key /none.pub on this server" in text(opened("signed", "?trust=/none.pub"), "wrong")


def test_it_says_where_onnxruntime_is_wanted(opened: Open) -> None:
    assert "There is no onnxruntime-web in /nowhere/." in text(opened("film", "?ort=/nowhere/"), "wrong")
    assert "from this server alone" in text(opened("film", "?ort=https://example.org/"), "wrong")


@pytest.mark.parametrize("width", [320, 360, 800, 1280])
@pytest.mark.parametrize("package", ["digits", "film"])
def test_nothing_but_the_table_scrolls_sideways(opened: Open, package: str, width: int) -> None:
    page = opened(package, "?variant=fp32" if package == "digits" else "", width=width)
    page.find_elements(By.CSS_SELECTOR, "#examples button")[0].click()
    shown(page)
    page.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("dark", [False, True])
def test_colours_follow_the_scheme_and_can_be_read(opened: Open, dark: bool) -> None:
    page = opened("digits", "?variant=fp32", dark=dark)
    page.find_elements(By.CSS_SELECTOR, "#examples button")[0].click()
    shown(page)
    paper = luminance(page.execute_script("return getComputedStyle(document.querySelector('section')).backgroundColor"))
    assert (paper < 0.05) if dark else (paper > 0.9)
    for selector in ("h1", "header p", "#state", "h2", "small", "#said b", ".score", "th", "td", "td.good", "summary"):
        colour = page.execute_script(f"return getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(luminance(colour), paper) >= 4.5, selector
