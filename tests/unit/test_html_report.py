"""The HTML report: what it says, that it is whole, and that nothing in the data becomes HTML."""

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.report_data import BENCHMARK, EVIL, folder_with, row
from toolchain.errors import BadUsage
from toolchain.html_report import gather, tables
from toolchain.html_report.finding import finding, panels
from toolchain.html_report.markup import Markup, joined, tag
from toolchain.html_report.placement import Box, Point, place
from toolchain.stats import Interval

pytest.importorskip("altair", reason="altair, of the extra 'report', is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python, of the extra 'report', is not installed")

from toolchain.html_report import bench_charts, drawing, page

VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """What there is in a page: elements with their attributes, texts, and whether all that opens closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    def text_of(self, name: str) -> list[str]:
        return [text for tag, text in self.texts if tag == name]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = folder_with(tmp_path_factory.mktemp("report") / "tiny")
    size = page.write(folder, folder / "report.html")
    written = (folder / "report.html").read_text(encoding="utf-8")
    assert size == len(written.encode("utf-8")) < 500_000
    return written


@pytest.fixture(scope="module")
def outline(text: str) -> Outline:
    return Outline(text)


def test_nothing_runs_and_nothing_is_fetched(text: str, outline: Outline) -> None:
    assert EVIL not in text
    assert not outline.all("script")
    links = [attributes[name] for _, attributes in outline.elements for name in ("href", "src") if name in attributes]
    assert all(link is not None and link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\((?!#)|@import", text)
    (policy,) = [meta["content"] for meta in outline.all("meta") if "http-equiv" in meta]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]


def test_the_page_can_be_read_by_a_machine(outline: Outline) -> None:
    assert outline.all("html") == [{"lang": "en"}]
    headings = [int(name[1]) for name, _ in outline.elements if re.fullmatch("h[1-6]", name)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for svg in outline.all("svg"):
        assert svg["role"] == "img"
        assert {svg["aria-labelledby"], svg["aria-describedby"]} <= set(ids)
    assert len(outline.all("svg")) == 2 * len(outline.all("figure"))
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all("scope" in head for head in outline.all("th"))
    assert all(
        box["tabindex"] == "0" and box["aria-label"] for box in outline.all("div") if box.get("class") == "scroll"
    )
    targets = {link["href"] for link in outline.all("a")}
    assert {str(target).removeprefix("#") for target in targets} <= set(ids)


def test_it_begins_with_what_was_found() -> None:
    found = finding(panels(BENCHMARK)[0])
    assert found.sentence == (
        "ort int8-static is 11.3 times as fast as eager and loses 0.80 points of accuracy, at batch 1, 2 threads."
    )
    assert [(name, value) for name, value, _ in found.figures] == [
        ("Speed-up", "11.3x"), ("Median latency", "0.079 ms"), ("Accuracy lost", "0.80 points"), ("Size", "0.227 MB"),
    ]  # fmt: skip


def test_a_drop_that_cannot_be_measured_and_no_proven_row() -> None:
    level = row("ort fp32", 1, 0.1, 9.0, drop=Interval(-0.0001, -0.004, 0.004))
    (panel,) = panels(replace(BENCHMARK, rows=(BENCHMARK.rows[0], level)))
    found = finding(panel)
    assert "loses no accuracy that could be measured" in found.sentence
    assert ("Accuracy lost", "−0.01 points", "95 % interval −0.40 to 0.40") in found.figures
    (panel,) = panels(replace(BENCHMARK, rows=BENCHMARK.rows[3:5]))
    assert finding(panel).sentence.startswith("No row ran and was proven.")


def test_an_unproven_row_is_struck_through_and_named_so(text: str) -> None:
    (line, _) = re.findall(r"<tr><th scope=\"row\"><s>ort int8-dynamic</s>.*?</tr>", text)
    assert '<span class="badge">unproven</span>' in line
    assert re.search(r"<td[^>]*><s>40\.0% ±1\.0</s></td>", line)
    assert "◆ Pareto" not in line
    assert "ort int8-dynamic (unproven): 40.0%" in text


def test_what_was_not_measured_says_how_to(tmp_path: Path) -> None:
    bare = replace(BENCHMARK, rows=(replace(BENCHMARK.rows[0], accuracy=None, rounds_ms=((1.0,),)),))
    found = Outline(page.render(gather.read(folder_with(tmp_path / "bare", bench=bare, whole=False))))
    folder = tmp_path / "bare"
    assert [line for line in found.text_of("code") if line.startswith("nnx")][:4] == [
        f"nnx bench {folder} --profile --output {folder}/bench.json",
        f"nnx explain MODEL.onnx --reference {folder}/model.onnx --json > {folder}/explain.json",
        "nnx run RECIPE",
        "nnx train RECIPE --ablate",
    ]
    assert "Size against latency" in found.text_of("h2")
    assert "bare" in found.text_of("h1")


def test_the_commands_can_be_pasted(outline: Outline) -> None:
    (lines,) = [code for code in outline.text_of("code") if code.startswith("nnx run")]
    assert lines.splitlines()[:2] == [
        "nnx run tiny --epochs 3 --batch-size 64 --lr 0.1 --seed 42",
        "nnx bench artifacts/tiny --batch 1,32 --data 'my data'",
    ]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("bench.json", None, "There is no .*bench.json: a report needs bench data."),
        ("bench.json", "{}", "not a benchmark of nnx"),
        ("bench.json", '{"schema_version": 1}', "schema version 1"),
        ("bench.json", replace(BENCHMARK, rows=()).to_json(), "holds no rows"),
        ("explain.json", '{"schema_version": 2}', "explain.json is not what `nnx explain --json` writes."),
        ("training.json", "[]", "training.json is not what `nnx train` writes."),
        ("ablation.json", "nonsense", "ablation.json is not what `nnx train --ablate` writes."),
    ],
)
def test_what_is_not_there_or_not_right_is_said(name: str, content: str | None, what: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "tiny")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(BadUsage, match=what):
        page.write(folder, folder / "report.html")
    assert not (folder / "report.html").exists()


def test_a_benchmark_alone_is_enough(tmp_path: Path) -> None:
    file = folder_with(tmp_path / "tiny") / "bench.json"
    gathered = gather.read(file)
    assert (gathered.name, gathered.training, gathered.explained) == ("bench", None, None)
    assert page.output_of(file).name == "bench.html"
    with pytest.raises(BadUsage, match="There is no"):
        gather.read(tmp_path / "nowhere" / "bench.json")


def test_layers_may_have_no_reference(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "tiny")
    content = json.loads((folder / "explain.json").read_text(encoding="utf-8"))
    for layer in content["layers"]:
        layer.update(own_sqnr_db=None, accumulated_sqnr_db=None, noise_share=None)
    (folder / "explain.json").write_text(json.dumps({**content, "reference": None}), encoding="utf-8")
    found = gather.read(folder).explained
    assert found is not None
    assert {layer.own_db for layer in found.layers} == {None}


@given(st.text(), st.text())
def test_text_stays_text(content: str, value: str) -> None:
    found = joined(tag("p", content, title=value), "<b>", Markup("<br>"))
    assert found.count("<") == 3
    assert found.endswith("</p>&lt;b&gt;<br>")


POINTS = st.builds(
    Point,
    x=st.floats(20, 580), y=st.floats(20, 380), radius=st.floats(3, 18), text_width=st.floats(20, 110),
)  # fmt: skip


@given(st.lists(POINTS, min_size=1, max_size=4))
def test_names_find_room(points: list[Point]) -> None:
    places = [at for at in place(points, width=600, height=400) if at is not None]
    assert len(places) == len(points)
    names = [
        Box(left, middle - 8, left + point.text_width, middle + 8)
        for point, (left, middle) in zip(points, places, strict=True)
    ]
    for index, name in enumerate(names):
        assert name.within(600.01, 400.01)
        assert not any(name.meets(other) for other in names[index + 1 :])


def test_a_name_without_room_is_left_out() -> None:
    crowd = [Point(50, 20, 10, 90)] * 5
    assert None in place(crowd, width=100, height=40)
    assert drawing.shortened("resnet/ort int8-static on cpu", 84) == "resnet…n cpu"
    assert drawing.shortened("ort fp32", 84) == "ort fp32"


def test_a_density_peaks_where_the_latencies_are() -> None:
    latencies = [1.0 + 0.001 * step for step in range(100)] * 3 + [5.0]
    grid, heights = bench_charts.density(latencies, 0.5, 8.0)
    assert max(heights) == 1.0
    assert 1.0 < grid[heights.index(1.0)] < 1.1
    assert bench_charts.density([100.0], 0.5, 8.0) == ([0.5, 8.0], [0.0, 0.0])


@given(st.floats(1e-3, 1e3), st.floats(1.01, 1e4))
def test_an_axis_has_ticks_within_its_ends(low: float, factor: float) -> None:
    found = drawing.ticks(low, low * factor)
    assert 1 <= len(found) <= 9
    assert all(low * 0.99 <= tick <= low * factor * 1.01 for tick in found)
    assert found == sorted(found)


def test_columns_of_figures_are_known() -> None:
    rows = [["a", "1.2x (1.1–1.3)", "cpu", "–", "~2x"], ["b", "1 (baseline)", "cuda", "99%", "1,200"]]
    assert tables.numeric_columns(rows) == [False, True, False, True, True]
