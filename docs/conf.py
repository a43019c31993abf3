"""How `make site` builds the documentation; its pages are the Markdown files beside this one."""

import eventstore

project = "mlmd-eventstore"
author = "The mlmd-eventstore authors"
release = eventstore.__version__
copyright = "Apache-2.0"  # noqa: A001

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_click"]
myst_enable_extensions = ["colon_fence"]
# Headings can be linked to, as they can where the repository is shown.
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"mlmd-eventstore {release}"
html_static_path: list[str] = []

autodoc_default_options = {"members": True, "member-order": "bysource", "inherited-members": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
# Annotations name classes of this project and of others that have no pages here.
nitpicky = False
suppress_warnings = ["ref.python"]
default_role = "code"
smartquotes = False
