"""Settings of the documentation site, built from the repository's root."""

from qcanet_monai import __version__

project = "qcanet-monai"
project_copyright = "the authors of qcanet-monai"
version = release = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
include_patterns = ["*.md", "docs/**", "bundles/*/docs/*.md", "hpo/**/*.md", "mlflow/*.md"]
exclude_patterns = ["docs/images"]
root_doc = "docs/index"
html_theme = "furo"
html_title = f"qcanet-monai {version}"
