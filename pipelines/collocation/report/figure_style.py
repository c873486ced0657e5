"""How figures look, in light and in dark."""

from __future__ import annotations

from functools import cache

from pipelines.parsing.page.drawing import style

SHADES = 9
"""Of a heat map, from low to high: one hue, whose lightness grows or falls evenly."""

# fill, and ink of a contrast of 5 : 1 or more against it
_LIGHT = (
    ("e9f6fe", "000"), ("b6e1ff", "000"), ("84cbfe", "000"), ("4db2fe", "000"), ("3699e9", "000"), ("2b7fce", "000"),
    ("2967ad", "fff"), ("2a5188", "fff"), ("273d61", "fff"),
)  # fmt: skip
_DARK = (
    ("0e244f", "fff"), ("0d3873", "fff"), ("054e95", "fff"), ("0067b3", "fff"), ("0281ce", "000"), ("269ce4", "000"),
    ("4cb7f5", "000"), ("7bd0ff", "000"), ("b6e6ff", "000"),
)  # fmt: skip
_RULES = """
.cf { display: block; width: 100%; height: auto; font-size: 13px; }
.cf .head { font-weight: 650; } .cf .soft { fill: var(--t-soft); font-size: 12px; }
.cf .middle { text-anchor: middle; } .cf .end { text-anchor: end; } .cf .strong { font-weight: 700; }
.cf .grid { stroke: var(--t-line); stroke-width: 1; fill: none; }
.cf .zero { stroke: var(--t-soft); stroke-width: 1; fill: none; }
.cf .line { stroke-width: 1.8; stroke-linejoin: round; } .cf .mark { fill: var(--t); stroke-width: 1.3; }
.cf .whisker { stroke-width: 1.2; stroke-opacity: 0.75; }
.cf .bar rect { fill-opacity: 0.75; } .cf .bar .whisker { stroke: var(--t-ink); stroke-opacity: 1; }
.cf .cell rect { fill-opacity: 1; } .cf .cell .none { fill: var(--t-track); }
"""


@cache
def looks() -> str:
    """Styles of all figures: those of timelines, and beyond them shades as variables."""
    light, dark = (
        " ".join(f"--q{i}: #{fill}; --i{i}: #{ink};" for i, (fill, ink) in enumerate(each)) for each in (_LIGHT, _DARK)
    )
    shades = "\n".join(
        f".cf .q{i} rect {{ fill: var(--q{i}); }} .cf .q{i} text {{ fill: var(--i{i}); }} "
        f".cf .q{i} .best {{ fill: none; stroke: var(--i{i}); stroke-width: 2; }}"
        for i in range(SHADES)
    )
    schemes = f".cf {{ {light} }}\n@media (prefers-color-scheme: dark) {{ .cf {{ {dark} }} }}\n"
    return f"{style()}{_RULES}{schemes}{shades}\n"
