"""The page: one HTML file, no scripts, nothing fetched."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from exporters.atomic_file import write_text
from toolchain import __version__
from toolchain.errors import BadUsage
from toolchain.html_report import commands, model_sections, sections
from toolchain.html_report.finding import Panel, finding, panels
from toolchain.html_report.gather import Gathered
from toolchain.html_report.markup import NOTHING, tag
from toolchain.html_report.sections import Section

NAME = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Nothing is fetched and no script runs, whatever a name in the data holds."""


def output_of(target: Path) -> Path:
    """Where the page goes by itself: into the folder, or beside the file."""
    return target / NAME if target.is_dir() else target.with_suffix(".html")


def write(gathered: Gathered, output: Path) -> int:
    """Leave the page as ``output``; return its bytes. Raises BadUsage where that is a file the page is made of."""
    if output.exists() and any(file.exists() and file.samefile(output) for file in gathered.files):
        raise BadUsage(
            f"{output} is what the report is made of: it would be overwritten.", "Name another file with -o."
        )
    text = render(gathered)
    write_text(output, text)
    return len(text.encode("utf-8"))


def render(gathered: Gathered) -> str:
    """The whole page."""
    benchmark = gathered.benchmark
    several = panels(benchmark)
    parts = [
        sections.results(benchmark, several),
        sections.trade_off(several),
        sections.latency(several),
        sections.weight(several),
        model_sections.operators(several, commands.profile(gathered)),
        *_of_a_folder(gathered),
        model_sections.machine(benchmark),
        model_sections.reproduce(gathered),
    ]
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#results", class_="skip"),
        _header(gathered.name, several, parts),
        tag("main", *(_section(part) for part in parts), id="content"),
        tag("footer", tag("p", f"Made by nnx {__version__} from figures of {benchmark.created}.")),
    )
    return f"<!DOCTYPE html>\n{tag('html', _head(gathered.name), body, lang='en')}\n"


def _of_a_folder(gathered: Gathered) -> list[Section]:
    """What only a run's folder has: a benchmark's file alone neither lacks it nor says how to get it."""
    if not gathered.source.is_dir():
        return []
    return [
        model_sections.layers(gathered.explained, commands.explain(gathered)),
        model_sections.training(gathered.training, commands.run(gathered)),
        model_sections.ablation(gathered.ablation, commands.ablate(gathered)),
    ]


def _head(name: str) -> Markup:
    style = (resources.files("toolchain.html_report") / "style.css").read_text(encoding="utf-8")
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{name}: nnx report"),
        tag("style", Markup(style)),
    )


def _header(name: str, several: Sequence[Panel], parts: Sequence[Section]) -> Markup:
    """The name, the finding, and the way to the parts."""
    leading = next((panel for panel in several if panel.fastest), several[0])
    found = finding(leading)
    figures = (
        tag("div", tag("dt", what), tag("dd", value), tag("dd", beside or "\u00a0", class_="beside"))
        for what, value, beside in found.figures
    )
    links = (tag("li", tag("a", part.title, href=f"#{part.key}")) for part in parts)
    return tag(
        "header",
        tag("p", "nnx report", class_="kicker"),
        tag("h1", name),
        tag("p", found.sentence, class_="lead"),
        tag("dl", *figures, class_="key-figures") if found.figures else NOTHING,
        tag("nav", tag("ul", *links), aria_label="Parts of this page"),
    )


def _section(part: Section) -> Markup:
    heading = tag("div", tag("h2", part.title, id=f"{part.key}-title"), part.intro, class_="beside-body")
    body = tag("div", part.body, class_="body") if part.body else NOTHING
    classes = " ".join(name for name, on in (("wide-body", part.wide), ("empty", not part.body)) if on)
    return tag(
        "section", heading, body, id=part.key, aria_labelledby=f"{part.key}-title", class_=classes or None, tabindex=-1
    )
