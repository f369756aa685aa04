"""The comparison with peers as a picture, in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.peers.row import WORKLOADS, Row

_WIDTH = 1000
_LEFT = 290
_RIGHT = 250
_BAR = 22
_OURS = "#c2410c"
_OTHERS = "#64748b"
_LEGEND = (
    "Bars: CPU time per operation, all processes of the system. Beside them: the median wait for a call, and how often "
    "data was forced to the disk per operation."
)


def plot(title: str, rows: Sequence[Row]) -> str:
    """One block of bars a workload, each block to its own scale, the cheapest first."""
    parts = [_text(16, 26, title, "font-weight='bold'"), _text(16, 46, _LEGEND, "fill='#475569'")]
    y = 80
    for workload in WORKLOADS:
        chosen = sorted((row for row in rows if row.workload == workload), key=lambda row: row.cpu_us)
        if not chosen:
            continue
        parts.append(_text(16, y, f"{workload}: CPU us per operation", "font-weight='bold'"))
        y += 10
        longest = max(row.cpu_us for row in chosen)
        for row in chosen:
            width = max(1.0, (_WIDTH - _LEFT - _RIGHT) * row.cpu_us / longest)
            colour = _OURS if row.system == "edge" else _OTHERS
            syncs = "syncs not counted" if row.syncs is None else f"{row.syncs:.2f} syncs"
            beside = f"{row.cpu_us:,.0f} us, {row.p50_ms:,.1f} ms, {syncs}"
            parts.append(_text(_LEFT - 8, y + 15, row.system, "text-anchor='end'"))
            parts.append(f"<rect x='{_LEFT}' y='{y + 2}' width='{width:.1f}' height='{_BAR - 6}' fill='{colour}'/>")
            parts.append(_text(_LEFT + width + 6, y + 15, beside))
            y += _BAR
        y += 30
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{y}' font-family='sans-serif' "
        f"font-size='13'><rect width='100%' height='100%' fill='white'/>{''.join(parts)}</svg>\n"
    )


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y}' {attributes}>{escape(text)}</text>"
