"""How Sphinx builds the site: ``make docs``."""

from __future__ import annotations

import logging
import os
import warnings
from importlib.metadata import version as version_of
from pathlib import Path

import lightning.pytorch  # noqa: F401  (sets the level of its loggers)

project = "lightning_fw"
copyright = "the authors of lightning_fw, MIT license"
release = version = version_of("lightning-fw")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "results/*/*.md",
    "results/*/*/*.md",
    "gallery/*.py.md5",
    "sg_execution_times.rst",
]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"lightning_fw {release}"
html_static_path: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# What a docstring refers to must have its entry: a reader of the site sees no other source.
nitpicky = True
# These stand in signatures alone: aliases of choices that the text lists, and names as the
# annotations have them.
nitpick_ignore = [
    ("py:class", name)
    for name in (
        *("By", "Cell", "Descent", "Level", "Nonlinearity", "Preset", "Sync", "OptimizerCallable"),
        *("Driver", "Figure", "Path", "Tensor", "lightning_fw.radius_rules.RadiusRule"),
        *("torch.nn.modules.module.Module", "torch.nn.parameter.Parameter"),
        *("torch.nn.modules.rnn.RNN", "torch.nn.modules.rnn.RNNCell"),
    )
]

# The files beside this one hold the names that our pages use, for a build without a network.
intersphinx_mapping = {
    name: (address, (None, f"inventories/{name}.inv"))
    for name, address in {
        "python": "https://docs.python.org/3/",
        "torch": "https://docs.pytorch.org/docs/stable/",
        "lightning": "https://lightning.ai/docs/pytorch/stable/",
        "torchmetrics": "https://lightning.ai/docs/torchmetrics/stable/",
    }.items()
}
intersphinx_timeout = 5

# What Lightning says of the machine is of no use on a page.
for logger in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(logger).setLevel(logging.WARNING)

# What it warns of in the gallery is its own use of torch, or meant so by the example; and a warning
# tells a path of the machine that built the page.
for message in (".*LeafSpec.*", "You passed in a `val_dataloader`", "Be aware that when using"):
    warnings.filterwarnings("ignore", message=message)

# Without its gallery a build takes seconds; the gallery's pictures are missing then.
runs_gallery = os.environ.get("GALLERY", "1") == "1"
suppress_warnings = ["config.cache"]  # a function in it, as below
if not runs_gallery:
    suppress_warnings.append("image.not_readable")


def drawn_figures(block, block_vars, gallery_conf):
    """Pictures of figures that belong to no window, as ``FWRestartMonitor.plot()`` makes them."""
    from matplotlib.figure import Figure
    from sphinx_gallery.scrapers import figure_rst

    figure = block_vars["example_globals"].get("figure")
    if not isinstance(figure, Figure) or hasattr(figure, "number"):  # pyplot's have one
        return ""
    del block_vars["example_globals"]["figure"]
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=80)
    return figure_rst([path], gallery_conf["src_dir"])


_READING_ORDER = (
    "quickstart",
    "your_own_module",
    "digits_by_pixel",
    "adding_problem",
    "choosing_a_ball",
    "reading_restarts",
    "cost_against_bptt",
    "truncated_bptt",
    "two_processes",
    "resume_after_a_kill",
    "cli_with_a_file",
    "plain_torch",
    "balls_and_a_window",
    "your_own_ball",
)


def in_reading_order(name):
    """Where an example stands in the gallery; each must have its place."""
    return _READING_ORDER.index(Path(name).stem)


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    # Lightning starts the second process with the program that runs; here that is Sphinx.
    "filename_pattern": r"^(?!.*two_processes).*\.py$",
    "ignore_pattern": r"__init__\.py|paper/",
    "copyfile_regex": r".*\.yaml",
    "download_all_examples": False,
    "remove_config_comments": True,
    "within_subsection_order": in_reading_order,
    # An example prints what it has to say.
    "capture_repr": (),
    "abort_on_example_error": True,
    "min_reported_time": 1,
    "plot_gallery": runs_gallery,
    # Half of the first figure of balls_and_a_window, for examples without a picture.
    "default_thumb_file": str(Path(__file__).parent / "images/balls.png"),
    "image_scrapers": ("matplotlib", drawn_figures),
}
