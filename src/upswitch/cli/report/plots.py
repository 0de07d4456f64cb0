"""The plots of a page: SVG by pygal, without its styles and scripts. The page's own style has the colors, light and dark."""

import sys
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from xml.etree import ElementTree as ET

import pygal
from pygal.graph.xy import XY
from pygal.style import Style

from upswitch.basics.value import Value
from upswitch.watch.seen import LATENCY_STEP_S, Seen, Segment

sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, pygal.PluginImportFixer)]
"""pygal leaves a finder there, for its plugins, of a kind that Python warns of at every later import."""

_SIZES = {"wide": (720, 200, 12), "narrow": (360, 190, 12)}  # width, height, labels' size in the units of the plot
_UNUSED = {"background", "titles", "plot text-overlay", "plot tooltip-overlay"}
_CHARACTER = 6.5  # width of one in a mark
_ROW, _MOST_ROWS = 14, 3
_MOST_Y = 4


class Mark(Value):
    """A vertical line where a step began. `at_s` is in seconds of `Seen`; `label` is "" for one without a name."""

    at_s: float
    label: str


class Line(Value):
    """One line of a plot. `number` chooses its color: 0 is the former pool, 1 the new one."""

    name: str
    number: int
    points: tuple[tuple[float, float], ...]
    is_dashed: bool = False


class Plot(Value):
    """`svgs` are the same plot for a wide page and for a narrow one. `said` describes it without a picture."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    svgs: dict[str, str]
    said: str


def plots(seen: Seen, marks: Sequence[Mark]) -> tuple[Plot, ...]:
    """Requests, failures, and how long requests took; nothing where no request was seen."""
    if not seen.segments:
        return ()
    first = min([each.begin_s for each in seen.segments] + [mark.at_s for mark in marks] + [0])
    span = (first, float(max([seen.seconds] + [mark.at_s for mark in marks])))
    order = tuple(dict.fromkeys(each.pool for each in seen.segments))
    requests = _lines(seen, order, lambda each: each.total)
    failures = _lines(seen, order, lambda each: each.failures)
    found = [
        _plot("Requests per second", "requests/s", requests, span=span, marks=marks),
        _plot("Failures per second", "failures/s", failures, span=span, marks=marks),
    ]
    if seen.latency:
        latency = tuple(_latency(seen, order))
        found.append(_plot("Time that requests took, in ms", "ms", latency, span=span, marks=marks))
    return tuple(found)


def _lines(seen: Seen, order: Sequence[str], values: Callable[[Segment], Sequence[int]]) -> tuple[Line, ...]:
    return tuple(_line(pool, number, seen, values) for number, pool in enumerate(order))


def _line(pool: str, number: int, seen: Seen, values: Callable[[Segment], Sequence[int]]) -> Line:
    """A rate in the middle of each step. A pool without requests before or after the switch has a line at 0 there."""
    points = list[tuple[float, float]]()
    for each in seen.segments:
        if each.pool == pool:
            middles = (each.begin_s + (at + 0.5) * each.step_s for at in range(len(each.total)))
            points += zip(middles, (count / each.step_s for count in values(each)), strict=True)
    is_after = any(at >= 0 for at, _ in points)
    points += [] if is_after else [(0.5, 0.0), (float(seen.seconds), 0.0)]
    return Line(name=pool, number=number, points=tuple((round(at, 2), round(rate, 2)) for at, rate in sorted(points)))


def _latency(seen: Seen, order: Sequence[str]) -> Iterable[Line]:
    for number, pool in enumerate(dict.fromkeys((*order, *(each.pool for each in seen.latency)))):
        steps = [(min(each.at_s + LATENCY_STEP_S / 2, seen.seconds), each) for each in seen.latency if each.pool == pool]
        if steps:
            half = tuple((at_s, float(each.median_ms)) for at_s, each in steps)
            most = tuple((at_s, float(each.slowest_ms)) for at_s, each in steps)
            yield Line(name=f"{pool}: half were faster", number=number, points=half)
            yield Line(name=f"{pool}: 95 % were faster", number=number, points=most, is_dashed=True)


def _plot(title: str, unit: str, lines: tuple[Line, ...], *, span: tuple[float, float], marks: Sequence[Mark]) -> Plot:
    top = max((rate for line in lines for _, rate in line.points), default=0.0)
    said = "; ".join(f"{line.name}: at most {max((rate for _, rate in line.points), default=0):,.0f} {unit}" for line in lines)
    svgs = {name: _svg(lines, span, marks, top=top, size=name) for name in _SIZES}
    return Plot(title=title, unit=unit, lines=lines, svgs=svgs, said=f"{title}. {said}.")


class _Marked(XY):  # type: ignore[misc]
    """With vertical lines. Those with a name have it above the plot, in rows, where it covers no other one."""

    marks: Sequence[Mark] = ()

    def _plot(self) -> None:
        super()._plot()
        place, rows = self.nodes["plot"], [float("-inf")] * _rows(self.marks)
        for mark in self.marks:
            x = self.view.x(mark.at_s)
            kind = "mark named" if mark.label else "mark"
            self.svg.node(place, "line", x1=x, x2=x, y1=0, y2=self.view.height, class_=kind)
            half = len(mark.label) * _CHARACTER / 2
            middle = min(x, self.view.width - half)
            row = next((at for at, free_from in enumerate(rows) if mark.label and middle - half >= free_from), None)
            if row is not None:
                self.svg.node(place, "text", x=middle, y=-5 - _ROW * row, class_="mark-label").text = mark.label
                rows[row] = middle + half


def _rows(marks: Sequence[Mark]) -> int:
    return min(_MOST_ROWS, len({mark.label for mark in marks} - {""}))


def _svg(lines: Sequence[Line], span: tuple[float, float], marks: Sequence[Mark], *, top: float, size: str) -> str:
    width, height, letters = _SIZES[size]
    ticks = _ticks(top)
    chart = _Marked(
        width=width,
        height=height,
        css=(),
        js=(),
        show_legend=False,
        show_dots=False,
        margin_left=4,
        margin_right=12,
        margin_top=8 + _ROW * _rows(marks),
        margin_bottom=4,
        xrange=span,
        range=(0, ticks[-1]),
        y_labels=ticks,
        x_labels=_times(span, most=width // 70),
        formatter=lambda rate: f"{rate:,.10g}" if isinstance(rate, float) else "",
        x_value_formatter=lambda at_s: f"{at_s:+.0f} s" if at_s else "0",
        style=Style(label_font_size=letters, major_label_font_size=letters, font_family="system-ui"),
    )
    chart.marks = marks
    for line in lines:
        dots = {"show_dots": len(line.points) == 1}
        chart.add(line.name, line.points, **dots)
    return _without_styles(chart.render_tree(), lines, size)


def _without_styles(root: ET.Element, lines: Sequence[Line], size: str) -> str:
    """Also without ids and the titles that a browser would show beside the mouse."""
    for parent in [*root.iter()]:
        for child in [*parent]:
            if not isinstance(child.tag, str) or child.tag in {"defs", "title", "desc"} or child.get("class") in _UNUSED:
                parent.remove(child)
    for number, line in enumerate(lines):
        for node in root.iter("g"):
            classes = (node.get("class") or "").split()
            if f"serie-{number}" in classes:
                node.set("class", f"series pool-{min(line.number, 2)}{' dashed' if line.is_dashed else ''}")
    root.attrib.pop("id", None)
    root.set("aria-hidden", "true")
    root.set("class", size)
    return ET.tostring(root, encoding="unicode")


def _ticks(top: float) -> list[float]:
    """From 0 to just above the highest value, in round steps."""
    step, size = 1.0, 1.0
    while step * _MOST_Y < top:
        step, size = next((each * size, size) for each in (2.0, 5.0, 10.0) if each * size > step)
        size = step if step >= 10 * size else size
    return [step * number for number in range(max(1, ceil(top / step)) + 1)]


def _times(span: tuple[float, float], *, most: int) -> list[int]:
    """Round times; 0 is one of them."""
    first, last = span
    step = next((each for each in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600) if (last - first) / each <= most), 7200)
    return [at for at in range(int(first // step) * step, int(last) + 1, step) if at >= first]
