"""Settings of Sphinx: sphinx-build -W docs docs/_build/html."""

project = "trio_otp"
author = "trio_otp contributors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "none"  # the signatures of the source say it better than what they resolve to
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
exclude_patterns = ["_build", "examples"]
