"""A figure that a notebook shows, also where nobody imported pyplot."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class DisplayedFigure(Figure):
    """A matplotlib figure with a PNG for notebooks.

    IPython shows a plain figure as a picture only once pyplot is imported: it registers a printer for figures then,
    which comes before this one. So the figure is seen once in either case, and pyplot, which would show it again at the
    end of the cell, does not know it.
    """

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
