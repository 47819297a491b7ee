"""A calibration plot as SVG: what probability was said, and how often it was so."""

from __future__ import annotations

import numpy as np

SIZE, EDGE = 420, 48


def calibration_plot(said: np.ndarray, true: np.ndarray, sources: np.ndarray, bins: int = 10) -> str:
    """Return the plot of held-out texts; both kinds count the same, and within a kind each source by its root."""
    weight = np.zeros(len(said))
    for name in np.unique(sources):
        weight[sources == name] = 1 / np.sqrt((sources == name).sum())
    for kind in (True, False):
        weight[true == kind] /= weight[true == kind].sum()
    dots, line = [], []
    for number in range(bins):
        inside = (said >= number / bins) & ((said < (number + 1) / bins) | (number == bins - 1))
        if inside.sum() < 5:
            continue
        mass = weight[inside].sum()
        x, y = (weight[inside] * said[inside]).sum() / mass, (weight[inside] * true[inside]).sum() / mass
        radius = 3 + 9 * mass**0.5
        dots.append(
            f'<circle cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="{radius:.1f}"><title>{inside.sum()}</title></circle>'
        )
        line.append(f"{_x(x):.1f},{_y(y):.1f}")
    marks = "".join(
        f'<text x="{_x(at / 5):.0f}" y="{SIZE - EDGE + 18}" text-anchor="middle">{at / 5:.1f}</text>'
        f'<text x="{EDGE - 8}" y="{_y(at / 5) + 4:.0f}" text-anchor="end">{at / 5:.1f}</text>'
        for at in range(6)
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" font-family="sans-serif"',
            ' font-size="12" fill="#444">',
            f'<rect width="{SIZE}" height="{SIZE}" fill="#fff"/>',
            f'<path d="M{_x(0)},{_y(0)}L{_x(1)},{_y(1)}" stroke="#bbb" stroke-dasharray="4"/>',
            f'<path d="M{_x(0)},{_y(1)}V{_y(0)}H{_x(1)}" stroke="#444" fill="none"/>{marks}',
            f'<polyline points="{" ".join(line)}" fill="none" stroke="#1f6feb"/>',
            f'<g fill="#1f6feb" fill-opacity="0.6">{"".join(dots)}</g>',
            f'<text x="{SIZE / 2}" y="{SIZE - 8}" text-anchor="middle">said of texts of unseen sources</text>',
            f'<text transform="translate(14 {SIZE / 2}) rotate(-90)" text-anchor="middle">share malicious</text></svg>',
            "",
        ]
    )


def _x(share: float) -> float:
    return EDGE + share * (SIZE - 2 * EDGE)


def _y(share: float) -> float:
    return SIZE - EDGE - share * (SIZE - 2 * EDGE)
