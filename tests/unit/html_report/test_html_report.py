"""The HTML report: what it says, that it is whole, and that nothing in the data becomes HTML."""

import itertools
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from tests.unit.html_report.report_data import BENCHMARK, EVIL, EXPLANATION, folder_with, row
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.errors import BadUsage
from toolchain.html_report import gather, tables
from toolchain.html_report.finding import finding, panels
from toolchain.html_report.markup import joined, tag
from toolchain.html_report.placement import Point, place
from toolchain.stats import Interval

pytest.importorskip("altair", reason="altair, of the extra 'report', is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python, of the extra 'report', is not installed")

from toolchain.html_report import bench_charts, drawing, model_charts, page, sections

BARE = replace(
    BENCHMARK,
    rows=(replace(BENCHMARK.rows[0], accuracy=None, rounds_ms=((1.0,),), rounds_s=(0.001,), rounds_runs=(1,)),),
)
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
    size = page.write(gather.read(folder), folder / "report.html")
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
        "At batch 1, 2 threads, ort int8-static is 11.3 times as fast as eager (11.0–11.5)"
        " and loses 0.80 points of accuracy."
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


def test_it_says_what_cannot_be_told() -> None:
    """A ratio that is not known is not the page's first sentence, and a lead that is not sure is no lead."""
    slower, *_, fast = (row(label, 1, 0.1, None) for label in ("eager", "ort int8-dynamic", "ort fp32"))
    vague = replace(fast, speedup=Interval(1.5, 0.2, 9.0))
    level = replace(row("ort int8-static", 1, 0.1, 1.2), rounds_ms=fast.rounds_ms)
    (panel,) = panels(replace(BENCHMARK, rows=(slower, vague, level)))
    assert finding(panel).sentence == (
        "At batch 1, 2 threads, ort fp32 is the fastest proven row, not clearly ahead of ort int8-static, eager."
    )
    assert finding(panel).figures[0][1:] == ("~2x", "no interval")


def test_a_row_alone_is_not_worth_having_more_than_others(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "one", bench=replace(BENCHMARK, rows=BENCHMARK.rows[:1]), whole=False)
    text = page.render(gather.read(folder))
    assert "Pareto" not in text
    assert "● without another proven row to compete with." in text


def test_an_unproven_row_is_struck_through_and_named_so(text: str) -> None:
    (line, _) = re.findall(r"<tr><th scope=\"row\"><s>ort int8-dynamic</s>.*?</tr>", text)
    assert '<span class="badge">unproven</span>' in line
    assert re.search(r"<td[^>]*><s>40\.0% [^<]+</s></td>", line)
    assert "◆ Pareto" not in line
    assert "ort int8-dynamic (unproven): 40.0%" in text


def test_what_was_not_measured_says_how_to(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "the bare", bench=BARE, whole=False)
    found = Outline(page.render(gather.read(folder)))
    assert [line for line in found.text_of("code") if line.startswith("nnx")][:4] == [
        f"nnx bench '{folder}' --profile --output '{folder}/bench.json'",
        f"nnx explain MODEL.onnx --reference '{folder}/model.onnx' --samples RECIPE --json > '{folder}/explain.json'",
        "nnx run RECIPE",
        "nnx train RECIPE --ablate",
    ]
    assert "Size against latency" in found.text_of("h2")
    assert "the bare" in found.text_of("h1")
    (folder / "manifest.json").write_text('{"schema_version": 1, "recipe": "cifar10", "data": "my data", "steps": {}}')
    found = Outline(page.render(gather.read(folder)))
    assert [line.partition("--data ")[2] for line in found.text_of("code") if line.startswith("nnx")][:4] == [
        f"'my data' --output '{folder}/bench.json'", f"'my data' --json > '{folder}/explain.json'", "'my data'",
        "'my data'",
    ]  # fmt: skip


def test_a_file_alone_lacks_only_profiles(tmp_path: Path) -> None:
    """What a folder's run leaves beside it is none of the file's; ``nnx run`` has no --profile to add."""
    file = folder_with(tmp_path / "tiny", bench=BARE, whole=False) / "bench.json"
    found = Outline(page.render(gather.read(file)))
    assert "nnx bench artifacts/tiny --batch 1,32 --data 'my data' --profile" in found.text_of("code")
    assert not {"Layers", "Training"} & set(found.text_of("h2"))
    file.write_text(replace(BARE, command=("nnx", "run", "tiny")).to_json(), encoding="utf-8")
    missing = [text for text in Outline(page.render(gather.read(file))).text_of("p") if "profiles" in text]
    assert missing == ["There are no profiles: bench with --profile."]


def test_the_commands_can_be_pasted(outline: Outline) -> None:
    (lines,) = [code for code in outline.text_of("code") if "nnx report" in code]
    assert lines.splitlines()[:3] == [
        "nnx bench artifacts/tiny --batch 1,32 --data 'my data'",
        "nnx explain tiny/model.int8-static.onnx --reference tiny/model.onnx --samples tiny --json",
        "nnx train tiny --ablate",
    ]


def with_layer(**wrong: Any) -> str:
    """An explanation whose first layer is wrong."""
    content = json.loads(EXPLANATION.to_json())
    content["layers"][0].update(wrong)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("bench.json", None, "There is no .*bench.json: a report needs bench data."),
        ("bench.json", "{}", "tiny/bench.json: .*not a benchmark of nnx"),
        ("bench.json", '{"schema_version": 1}', "schema version 1"),
        ("bench.json", replace(BENCHMARK, rows=()).to_json(), "holds no rows"),
        ("explain.json", '{"schema_version": 2}', "explain.json: .* schema version 2"),
        ("explain.json", with_layer(own_sqnr_db="x"), r"explain --json` writes: layers\[0\].own_sqnr_db is \"x\""),
        ("explain.json", with_layer(name=None), r"explain.json: .*not what .*layers\[0\].name is null"),
        ("training.json", "[]", "training.json: .*not what `nnx train` writes: it is \\[\\]"),
        ("ablation.json", "nonsense", "ablation.json: .*not what `nnx train --ablate` writes: it is no JSON"),
    ],
)
def test_what_is_not_there_or_not_right_is_said(name: str, content: str | None, what: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "tiny")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(BadUsage, match=what):
        page.write(gather.read(folder), folder / "report.html")
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
    assert {layer.own_sqnr_db for layer in found.layers} == {None}


def test_a_model_may_have_no_layers(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "tiny")
    (folder / "explain.json").write_text(replace(EXPLANATION, layers=()).to_json(), encoding="utf-8")
    assert "model.int8-static.onnx has no layers." in page.render(gather.read(folder))


@pytest.mark.parametrize("name", ["bench.json", "explain.json", "manifest.json", "other.html"])
def test_what_the_page_is_made_of_is_not_overwritten(name: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "tiny", bench=BARE)
    (tmp_path / "tiny" / "other.html").hardlink_to(folder / "bench.json")
    before = (folder / name).read_bytes()
    with pytest.raises(BadUsage, match=f"{name} is what the report is made of"):
        page.write(gather.read(folder), folder / name)
    assert (folder / name).read_bytes() == before


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_text_stays_text(content: str, value: str) -> None:
    found = joined(tag("p", content, title=value), "<b>", Markup("<br>"))
    assert found.count("<") == 3
    assert found.endswith("</p>&lt;b&gt;<br>")
    ElementTree.fromstring(found.removesuffix("&lt;b&gt;<br>").encode("utf-8"))


HOSTILE = [
    EVIL,
    "a \"quoted\" 'x' & y",
    "模型 ночь 🚀",
    "c \x00\x08\udcff",
    "n" * 40 + "/1",
    "n" * 40 + "/2",
]


@pytest.mark.parametrize("layout", [drawing.WIDE, drawing.NARROW])
def test_drawings_take_any_name(layout: drawing.Layout) -> None:
    """Drawn together, so that the converter runs once a layout; a control character used to end the process."""
    kinds = [bench_charts.EFFICIENT, bench_charts.BEATEN, bench_charts.UNPROVEN] * 2
    bubbles = [
        bench_charts.Bubble(name=name, latency_ms=1.0 + at, value=0.5, low=0.4, high=0.6, size_bytes=0, kind=kind)
        for at, (name, kind) in enumerate(zip(HOSTILE, kinds, strict=True))
    ]
    cells = [model_charts.Cell(row=name, column=other, text="1%", level=0) for name in HOSTILE for other in HOSTILE]
    for chart in (bench_charts.trade_off(bubbles, layout, measure=TOP1.measure), model_charts.heat_map(cells, layout)):
        drawn = drawing.svg(chart, layout, name="x", title="t", finding="f")
        ElementTree.fromstring(drawn.encode("utf-8"))
        texts = Outline(drawn).text_of("text")
        assert "模型 ночь 🚀" in texts
        assert "c \\x00\\x08\\udcff" in texts
        ends = {text[-2:] for text in texts if text.startswith("nnn")}
        assert ends == {"/1", "/2"}
    assert EVIL not in drawn


def test_figures_that_do_not_fit_are_left_out() -> None:
    cells = [model_charts.Cell(row="Conv", column=str(number), text="100%", level=0) for number in range(12)]
    wide, narrow = (
        drawing.svg(model_charts.heat_map(cells, layout), layout, name="x", title="t", finding="f").count("100%")
        for layout in (drawing.WIDE, drawing.NARROW)
    )
    assert (wide, narrow) == (12, 0)


def test_the_area_of_a_mark_is_the_size_of_its_file() -> None:
    """Whatever its shape; and files of no bytes are drawn too."""
    sizes = {bench_charts.EFFICIENT: 4000, bench_charts.BEATEN: 2000, bench_charts.UNPROVEN: 1000}

    def areas(scale: int) -> list[float]:
        bubbles = [
            bench_charts.Bubble(
                name=kind, latency_ms=1.0 + at, value=1.0, low=1.0, high=1.0, size_bytes=size * scale, kind=kind
            )
            for at, (kind, size) in enumerate(sizes.items())
        ]
        drawn = drawing.svg(
            bench_charts.trade_off(bubbles, drawing.WIDE, measure=None), drawing.WIDE, name="x", title="t", finding="f"
        )
        return [area_of(path["d"] or "") for path in Outline(drawn).all("path") if path.get("fill-opacity") == "0.22"]

    diamond, circle, cross = areas(1)
    assert diamond == pytest.approx(2 * circle, rel=0.05)
    assert diamond == pytest.approx(4 * cross, rel=0.05)
    assert max(areas(0)) == pytest.approx(min(areas(0)), rel=0.1)


def area_of(path: str) -> float:
    """Of a circle drawn as an arc, or a polygon."""
    if arc := re.search(r"A([\d.]+)", path):
        return math.pi * float(arc[1]) ** 2
    corners = [tuple(map(float, corner)) for corner in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]
    closed = zip(corners, [*corners[1:], corners[0]], strict=True)
    return abs(sum(x * after_y - after_x * y for (x, y), (after_x, after_y) in closed)) / 2


POINTS = st.builds(
    Point,
    x=st.floats(20, 580), y=st.floats(20, 380), radius=st.floats(3, 18), text_width=st.floats(20, 110),
)  # fmt: skip


@given(st.lists(POINTS, min_size=1, max_size=4))
@example([Point(300, 200, 12, 100)] * 6)
def test_names_find_room(points: list[Point]) -> None:
    places = [found for found in place(points, width=600, height=400) if found is not None]
    assert len(places) == len(points)
    for index, (point, found) in enumerate(zip(points, places, strict=True)):
        assert found.box.within(600, 400)
        assert found.box.right - found.box.left == pytest.approx(point.text_width)
        assert not any(found.box.meets(other.box) for other in places[index + 1 :])


def test_a_name_far_from_its_mark_has_a_line_to_it() -> None:
    near, *_, far = place([Point(300, 200, 12, 100)] * 10, width=600, height=400)
    assert near is not None
    assert near.leader is None
    assert far is not None
    assert far.leader is not None
    (x, y), end = far.leader
    assert math.hypot(x - 300, y - 200) == pytest.approx(12)
    assert end[1] in (far.box.top, far.box.bottom)


def test_a_name_without_room_is_left_out() -> None:
    crowd = [Point(50, 20, 10, 90)] * 5
    assert None in place(crowd, width=100, height=40)
    assert drawing.shortened("resnet/ort int8-static on cpu", 84) == "resnet…n cpu"
    assert drawing.shortened("ort fp32", 84) == "ort fp32"
    blocks = [f"encoder.layers.{number}.attention.self.query.MatMul" for number in range(3)]
    assert drawing.told_apart(blocks, 84) == ["…0.att…atMul", "…1.att…atMul", "…2.att…atMul"]
    assert drawing.told_apart(["Conv", "Conv"], 84) == ["Conv", "Conv"]


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
    assert tables.numeric_columns(["row", "ratio", "place", "share", "size"], rows) == [False, True, False, True, True]
    assert tables.numeric_columns(["row", "ratio"], []) == [False, False]


def test_sizes_are_never_nothing() -> None:
    small = replace(BENCHMARK.rows[0].candidate, size_bytes=187)
    benchmark = replace(BENCHMARK, rows=tuple(replace(each, candidate=small) for each in BENCHMARK.rows))
    (panel, _) = panels(benchmark)
    assert panel.cell(panel.rows[0], "size MB") == "0.187 kB"
    section = sections.weight([panel])
    assert "All have 0.187 kB." in section.body
    assert "var(--accent)" not in section.body.partition("Memory")[0]
