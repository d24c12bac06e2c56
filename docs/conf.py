"""How Sphinx builds the site: `tox -e docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import lla

project = "lla"
author = copyright = "The lla developers"
version = release = lla.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstrings",
    "mathml",
    "results",
]
exclude_patterns = ["first_steps.source.md"]

html_theme = "furo"
html_title = f"lla {version}"
html_static_path = ["extensions/site.css"]
html_css_files = ["site.css"]
html_extra_path = ["../results/report.html"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_allow_labels = False
myst_heading_anchors = 3
nb_execution_mode = "off"  # docs/make_notebook.py runs the notebook
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

smartquotes = False  # v'Hv is a formula
# `lla.Problem` in a docstring is a link where there is such a thing, else code
default_role = "py:obj"
add_module_names = False
python_maximum_signature_line_length = 80
autodoc_mock_imports = ["transformers", "lightning"]  # for the callbacks
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_use_rtype = False
