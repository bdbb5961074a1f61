"""Settings of Sphinx: sphinx-build -W docs docs/_build/html."""

project = "trio_otp"
author = "trio_otp contributors"

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
exclude_patterns = ["_build", "examples"]
