"""Results in a notebook: their text, and their picture below it, as one piece of HTML."""

from __future__ import annotations

import base64
import html
from typing import Any

from lla.errors import LIBRARY_ERRORS
from lla.plotting import forget, png_of


def html_of(result: Any) -> str:
    """The text of a result and, if it has a method `plot`, its picture.

    Args:
        result: anything; its `repr` is the text.

    Returns:
        HTML with the picture inside it. Where the result cannot be drawn, it says why.

    >>> html_of(1 < 2)
    '<pre>True</pre>'
    """
    text = f"<pre>{html.escape(repr(result))}</pre>"
    draw = getattr(result, "plot", None)
    if draw is None:
        return text
    try:
        figure = draw()
    except LIBRARY_ERRORS as error:
        return f"{text}<p>{html.escape(str(error))}</p>"
    picture = base64.b64encode(png_of(figure)).decode()
    forget(figure)
    alt = html.escape(repr(result).partition("\n")[0], quote=True)
    return f'{text}<img alt="{alt}" src="data:image/png;base64,{picture}">'
