"""Formulas as MathML, which browsers show without a script and without a network."""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the renderer known to Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def mathml(formula: str, as_block: bool = False) -> str:
    r"""A formula of LaTeX as MathML.

    Raises:
        ExtensionError: it holds a command that is not known.

    >>> "<mi>θ</mi>" in mathml(r"\theta")
    True
    """
    try:
        found = tex2mathml(formula, as_block=as_block)
    except MathError as error:
        raise ExtensionError(f"{error} in the formula {formula!r}") from error
    for bar in "|‖":  # without these a browser takes them for operators, with room on both sides
        found = found.replace(f'<mo class="mathopen">{bar}</mo>', f'<mo form="prefix">{bar}</mo>')
        found = found.replace(f"<mo>{bar}</mo>", f'<mo form="postfix">{bar}</mo>')
    return found
