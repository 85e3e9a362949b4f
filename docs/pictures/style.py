"""How are the pictures of the documentation drawn? As SVG: boxes, arrows and text of one style."""
from html import escape
from typing import List, Sequence, Tuple

STUDENT, TEACHER, TERM, PLAIN, IDLE = '#1f6fb4', '#b4651f', '#2c7a4b', '#444b57', '#b9bec7'
PALE = {STUDENT: '#e4f0fa', TEACHER: '#fbeee0', TERM: '#e4f4ea', PLAIN: '#f1f2f4', IDLE: '#fafafa'}
SIZE = 16
"""Of letters; a picture is at most 600 wide, so that they can be read on a phone."""

Point = Tuple[float, float]


class Picture:
    """A drawing on a white card, which is readable on light and dark pages."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: List[str] = []

    def box(self, x: float, y: float, width: float, height: float, text: str, color: str = PLAIN,
            is_dashed: bool = False) -> None:
        """A box with one or more lines of text in its middle."""
        dash = ' stroke-dasharray="5 4"' if is_dashed else ''
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" '
                          f'fill="{PALE[color]}" stroke="{color}" stroke-width="1.6"{dash}/>')
        lines = text.split('\n')
        top = y + height / 2 - (len(lines) - 1) * SIZE * .6
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + number * SIZE * 1.2, line,
                      IDLE if color == IDLE else '#1b1f27')

    def text(self, x: float, y: float, text: str, color: str = '#1b1f27', anchor: str = 'middle',
             size: float = SIZE, is_bold: bool = False) -> None:
        """A line of text, its middle at the height y."""
        if color == IDLE:
            color = '#8a909b'
        weight = ' font-weight="bold"' if is_bold else ''
        self.parts.append(f'<text x="{x:g}" y="{y:g}" fill="{color}" font-size="{size:g}" '
                          f'text-anchor="{anchor}" dominant-baseline="central"{weight}>'
                          f'{escape(text)}</text>')

    def arrow(self, points: Sequence[Point], color: str = PLAIN, is_dashed: bool = False) -> None:
        """A line through these points, with a head at the last one."""
        path = 'M' + ' L'.join(f'{x:g},{y:g}' for x, y in points)
        dash = ' stroke-dasharray="5 4"' if is_dashed else ''
        self.parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>')
        (x0, y0), (x, y) = points[-2:]
        length = ((x - x0)**2 + (y - y0)**2)**.5
        dx, dy = (x - x0) / length, (y - y0) / length
        corners = [(x, y), (x - 10 * dx + 5 * dy, y - 10 * dy - 5 * dx),
                   (x - 10 * dx - 5 * dy, y - 10 * dy + 5 * dx)]
        self.parts.append('<polygon points="' + ' '.join(f'{a:g},{b:g}' for a, b in corners) +
                          f'" fill="{color}"/>')

    def cell(self, x: float, y: float, size: float, share: float, color: str) -> None:
        """A square, filled with a color as strongly as a share from 0 to 1 says."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}" '
                          f'fill="{color}" fill-opacity="{share:.3f}" stroke="{IDLE}" '
                          'stroke-width="0.8"/>')

    def frame(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """An empty frame around cells."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
                          f'fill="none" stroke="{color}" stroke-width="3" rx="3"/>')

    def svg(self) -> str:
        """The file."""
        return '\n'.join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="Helvetica, Arial, '
            'sans-serif" role="img">', f'<title>{escape(self.title)}</title>',
            f'<rect width="{self.width}" height="{self.height}" rx="10" fill="#ffffff"/>',
            *self.parts, '</svg>', ''])
