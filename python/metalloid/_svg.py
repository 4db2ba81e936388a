"""Drawings of graphs, as SVG."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from . import Graph, GraphNode

# More than this nobody can look at.
_MOST_NODES = 400
_MOST_PER_ROW = 12
_MOST_EDGES = 2000

_WIDTH, _HEIGHT = 176, 58  # of a node
_GAP_X, _GAP_Y = 20, 34
_MARGIN, _HEADER = 24, 74
_TEXT = 26  # characters that fit into a node

# Colours that hold on white and on black: text and boxes bring their own.
_STYLE = """
  .back { fill: #fbfbfd; }
  text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #1c1f26; }
  .title { font-size: 17px; font-weight: 600; }
  .small { font-size: 10.5px; fill: #5a6070; }
  .name { font-weight: 600; }
  .node rect { fill: #ffffff; stroke: #9aa3b5; }
  .impure rect { stroke-dasharray: 4 3; }
  .fused rect { fill: #fff1d6; stroke: #c98a16; stroke-width: 1.6; }
  .edge { fill: none; stroke: #7e8aa3; stroke-opacity: 0.6; }
  .barrier { stroke: #c2413b; stroke-width: 1.2; stroke-dasharray: 7 4; }
  .barrier-text { font-size: 10.5px; fill: #c2413b; }
  @media (prefers-color-scheme: dark) {
    .back { fill: #16181d; }
    text { fill: #e8eaf0; }
    .small { fill: #a3abbd; }
    .node rect { fill: #22262f; stroke: #6b758a; }
    .fused rect { fill: #43361a; stroke: #e0a83c; }
    .edge { stroke: #8f9bb5; }
    .barrier { stroke: #f0807a; }
    .barrier-text { fill: #f0807a; }
  }
"""
_GROUP_COLOURS = ("#4c8fd6", "#3fa66b", "#9a6dd7", "#d98a3d", "#d1578f", "#3aa6a6", "#8fa636", "#6f74d9")


def _human(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or unit == "TiB":
            break
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def _plural(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def _text(words: str, most: int | None = None) -> str:
    """Words as XML text: what XML cannot hold is replaced, what is too long is cut."""
    words = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", words)
    if most and len(words) > most:
        words = words[: most - 1] + "\u2026"
    return escape(words, {'"': "&quot;"})


def _words(kind: str, x: int, y: int, words: str, most: int | None = None, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x}" y="{y}"{anchor}>{_text(words, most)}</text>'


def _title(node: GraphNode, place: int, made_of: str) -> str:
    lines = [f"{place}: {node.name}"]
    if node.label:
        lines.append(f"label: {node.label}")
    if node.group:
        lines.append(f"group: {node.group}")
    if made_of:
        lines.append(f"made of: {made_of}")
    grid = " x ".join(map(str, node.grid))
    threads = " x ".join(map(str, node.threadgroup))
    lines.append(f"{grid} {'threads' if node.by_threads else 'threadgroups'} of {threads}")
    lines.append(f"{_human(node.nbytes)}; {'pure' if node.pure else 'keeps its place'}")
    return _text("\n".join(lines))


# What the two halves of a fusion were is not kept; the operations tell.
_HALVES = {"rms_norm_mul": ("rms_norm", "mul"), "fused_head_norm_rope": ("rms_norm", "rope_neox")}


def _made_of(node: GraphNode) -> str:
    if len(node.origins) < 2:
        return ""
    halves = _HALVES.get(node.name, ())
    return " + ".join(halves) if len(halves) == len(node.origins) else _plural(len(node.origins), "dispatch")


def _waves(nodes: list[GraphNode]) -> list[list[int]]:
    waves: list[list[int]] = []
    for place, node in enumerate(nodes):
        if node.barrier or not waves:
            waves.append([])
        waves[-1].append(place)
    return waves


def draw(graph: Graph, path: str | os.PathLike[str] | None = None) -> str:
    """The graph as the text of an SVG, which is also written to path if that is given.

    Nodes stand in rows, as they run; a line between rows is a barrier. Of a large graph only the beginning
    is drawn.
    """
    nodes = graph.nodes
    waves = _waves(nodes)
    recording = graph.recording
    barriers = sum(node.barrier for node in nodes)

    # Where each node goes: waves that are too wide take several rows.
    places: dict[int, tuple[int, int]] = {}
    lines: list[int] = []
    y = _HEADER + _MARGIN
    widest = 3
    for wave in waves:
        if len(places) >= _MOST_NODES:
            break
        shown = wave[: _MOST_NODES - len(places)]
        if places and nodes[wave[0]].barrier:
            lines.append(y + _GAP_Y // 2 - _GAP_Y)
        for first in range(0, len(shown), _MOST_PER_ROW):
            row = shown[first : first + _MOST_PER_ROW]
            widest = max(widest, len(row))
            for column, place in enumerate(row):
                places[place] = (_MARGIN + column * (_WIDTH + _GAP_X), y)
            y += _HEIGHT + (_GAP_Y if first + _MOST_PER_ROW >= len(shown) else _GAP_X)
    left_out = len(nodes) - len(places)
    width = 2 * _MARGIN + widest * (_WIDTH + _GAP_X) - _GAP_X

    counts = [
        _plural(len(nodes), "dispatch", "dispatches"),
        f"{_human(graph.nbytes)} read and written",
        _plural(barriers, "barrier"),
    ]
    if not recording and graph.optimized:
        counts += [f"{graph.fused_count} fused", f"{graph.removed_count} removed"]
        plan = graph.memory
        if plan.buffers:
            memory = f"{_plural(plan.buffers, 'buffer')} of {_human(plan.unshared)} share {_human(plan.peak)}"
        else:
            memory = "no buffers of its own"
    else:
        memory = "recording" if recording else "as recorded"

    out = [
        _words("title", _MARGIN, 32, graph.label or "Graph", 80),
        _words("counts", _MARGIN, 53, ", ".join(counts)),
        _words("small", _MARGIN, 71, memory),
    ]
    for line in lines:
        out.append(f'<line class="barrier" x1="{_MARGIN}" y1="{line}" x2="{width - _MARGIN}" y2="{line}"/>')
        out.append(_words("barrier-text", width - _MARGIN, line - 4, "barrier", end=True))

    edges = [edge for edge in graph.edges if edge[0] in places and edge[1] in places]
    for before, after in edges[:_MOST_EDGES]:
        (x0, y0), (x1, y1) = places[before], places[after]
        x0, y0, x1 = x0 + _WIDTH // 2, y0 + _HEIGHT, x1 + _WIDTH // 2
        bend = max((y1 - y0) // 2, 14)
        curve = f"M{x0} {y0}C{x0} {y0 + bend} {x1} {y1 - bend} {x1} {y1}"
        out.append(f'<path class="edge" d="{curve}" marker-end="url(#tip)"/>')

    groups = {name: i for i, name in enumerate(dict.fromkeys(n.group for n in nodes if n.group))}
    for place, (x, top) in places.items():
        node = nodes[place]
        made_of = _made_of(node)
        kind = " fused" if made_of else "" if node.pure else " impure"
        out.append(f'<g class="node{kind}"><title>{_title(node, place, made_of)}</title>')
        out.append(f'<rect x="{x}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>')
        if node.group:
            colour = _GROUP_COLOURS[groups[node.group] % len(_GROUP_COLOURS)]
            out.append(
                f'<rect style="stroke:none;fill:{colour}" x="{x}" y="{top + 6}" width="5" '
                f'height="{_HEIGHT - 12}" rx="2"/>'
            )
        below = " / ".join(word for word in (made_of or node.label, node.group) if word)
        out.append(_words("name", x + 12, top + 18, node.name, _TEXT - 4))
        if below:
            out.append(_words("small", x + 12, top + 33, below, _TEXT + 2))
        out.append(_words("small", x + 12, top + 48, _human(node.nbytes)))
        out.append(_words("small", x + _WIDTH - 8, top + 48, str(place), end=True) + "</g>")

    missing = []
    if left_out:
        rest = Counter(nodes[i].name for i in range(len(nodes)) if i not in places)
        names = ", ".join(f"{count} {name}" for name, count in rest.most_common(4))
        names += ", ..." if len(rest) > 4 else ""
        missing.append(f"{_plural(left_out, 'more dispatch', 'more dispatches')} not drawn ({names})")
    if len(edges) > _MOST_EDGES:
        more = _plural(len(edges) - _MOST_EDGES, "more dependency", "more dependencies")
        missing.append(f"{more} not drawn")
    for words in missing:
        out.append(_words("counts", _MARGIN, y, words))
        y += 18

    height = y + _MARGIN
    svg = "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">',
            f"<style>{_STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#7e8aa3"/></marker></defs>',
            f'<rect class="back" width="{width}" height="{height}"/>',
            *out,
            "</svg>\n",
        ]
    )
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(svg)
    return svg
