"""Pictures with and without pyplot: shown where the user has it, and nothing of it touched."""

import base64
import subprocess
import sys
import types

import pytest
from matplotlib.figure import Figure

from lla import plotting
from lla.plotting import axes_of, entitled, forget
from lla.shown import html_of

SCRIPT = """
import sys
import torch, lla
sys.modules["tkinter"] = None  # no window can be opened
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
batch = torch.rand(6, 3), torch.arange(6) % 2
problem = lla.Problem(model, batch)
crit = lla.criteria(model, batch, probes=2, steps=4)
layers = lla.layerwise(model, batch, k=2)
results = [
    crit, crit.spectra[0], lla.top_eigenpairs(lla.HessianOperator(problem)),
    lla.loss_plane(problem, steps=2), lla.flatness(model, batch), layers, layers["0"],
    layers.overlap(layers), lla.landscape.pca_path(torch.rand(4, problem.space.size)),
]
for result in results:
    result._repr_html_()
    result.plot().savefig(sys.stderr.buffer)
assert "matplotlib.pyplot" not in sys.modules

import matplotlib
matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

for result in results:
    before = dict(matplotlib.rcParams)
    result._repr_html_()
    assert pyplot.get_fignums() == []
    figure = result.plot()
    assert pyplot.gcf() is figure
    assert pyplot.get_fignums() == [1]
    pyplot.close(figure)
    ax = Figure().add_subplot()
    assert result.plot(ax=ax) is ax.figure
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
"""


def test_pictures_need_no_pyplot_and_no_display_and_are_its_figures_where_the_user_has_it():
    # in a process of its own, since pyplot cannot be taken back
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]


class Pyplot(types.SimpleNamespace):
    """A pyplot whose backend can be named."""

    def __init__(self, backend):
        super().__init__(figures=[], get_backend=lambda: backend)

    def figure(self, **options):
        self.figures.append(Figure(**options))
        return self.figures[-1]

    def close(self, figure):
        if figure in self.figures:
            self.figures.remove(figure)


@pytest.mark.parametrize(
    ("backend", "left"),
    [("module://matplotlib_inline.backend_inline", 0), ("inline", 0), ("agg", 1), ("tkagg", 1)],
)
def test_a_cell_of_a_notebook_shows_a_figure_once(monkeypatch, backend, left):
    pyplot = Pyplot(backend)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
    figure, _ = axes_of(None)
    assert pyplot.figures == [figure]
    shown = figure._repr_mimebundle_()  # what IPython calls for the last value of a cell
    assert shown["image/png"].startswith(b"\x89PNG")
    # those that are left are shown at the end of the cell
    assert len(pyplot.figures) == left


def test_a_figure_without_pyplot_shows_itself(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    figure, _ = axes_of(None)
    assert figure._repr_mimebundle_(include=None, exclude=None)["image/png"]
    assert "matplotlib.pyplot" not in sys.modules
    forget(figure)


def test_axes_of_a_subfigure_belong_to_the_whole_figure():
    figure = Figure()
    ax = figure.subfigures(1, 2)[1].subfigures(2, 1)[0].add_subplot()
    assert axes_of(ax) == (figure, ax)


@pytest.mark.parametrize(
    ("given", "title", "about", "above", "over_axes"),
    [
        (False, None, "LeNet, eval mode", "LeNet, eval mode", ""),
        (False, "mine", "LeNet, eval mode", "mine", ""),
        (False, "", "LeNet, eval mode", "", ""),
        (True, None, "LeNet, eval mode", "", "as it was"),
        (True, "mine", "LeNet, eval mode", "", "mine"),
    ],
)
def test_titles(given, title, about, above, over_axes):
    figure = Figure()
    ax = figure.add_subplot()
    if given:
        ax.set_title("as it was")
    assert entitled(ax if given else None, figure, title, about) is figure
    assert (figure.get_suptitle(), ax.get_title()) == (above, over_axes)


def test_the_page_of_a_result_is_escaped_and_holds_its_picture(monkeypatch):
    class Result:
        def plot(self):
            return axes_of(None)[0]

        def __repr__(self):
            return 'a < b & "c"\nsecond line'

    monkeypatch.setattr(plotting, "axes_of", axes_of)
    page = html_of(Result())
    assert page.startswith("<pre>a &lt; b &amp; &quot;c&quot;\nsecond line</pre><img ")
    assert 'alt="a &lt; b &amp; &quot;c&quot;"' in page
    assert base64.b64decode(page.rpartition("base64,")[2].rstrip('">')).startswith(b"\x89PNG")
