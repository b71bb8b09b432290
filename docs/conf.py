"""How Sphinx makes a site of README.md, CHANGELOG.md, CONTRIBUTING.md and docs/: `make site`.

The pages are what they are on a forge: Markdown with links from file to file. Three of them get more on the site, at
their end: README.md the navigation, which is the list of its section "More"; docs/api.md the docstrings of the names
that it lists; docs/http.md the routes of docs/openapi.yaml.
"""

import functools
import inspect
import operator
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tailer import __version__  # noqa: E402 (from here, not from where an older one may be installed)

project = "Tailer"
author = copyright = "the Tailer maintainers"
release = version = __version__
language = "en"
smartquotes = False  # two hyphens are two hyphens
root_doc = "README"
# Only what is a page: below the root is also all that builds and tests leave there.
include_patterns = ["*.md", "docs/*.md"]
exclude_patterns = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4  # links to headings work as on a forge
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_use_type_comments = False
napoleon_numpy_docstring = False
maximum_signature_line_length = 88

html_theme = "furo"  # brings its fonts, styles and scripts along
html_title = f"Tailer {release}"
html_show_sphinx = False
html_copy_source = False
pygments_style, pygments_dark_style = "default", "github-dark"

LINK = re.compile(r"^- \[[^]]*\]\(([^)]*)\.md\)", re.MULTILINE)
PUBLIC = re.compile(r"^\| `((?:tailer|worker)[\w.]*)` \|", re.MULTILINE)


def pages(readme: str) -> list[str]:
    """The pages that README.md lists under "More", in its order."""
    return LINK.findall(readme.partition("\n## More\n")[2])


def navigation(readme: str) -> Iterator[str]:
    """The site's list of pages. Sphinx warns of a page that is not in it."""
    yield from ["```{toctree}", ":hidden:", "", *pages(readme), "```"]


def reference(listed: str) -> Iterator[str]:
    """What the docstrings say of each name in the tables of a page, module by module; of a whole module, all of it."""
    names = [(*name.rpartition("."),) for name in PUBLIC.findall(listed)]
    whole = [f"{package}.{name}" for package, _, name in names if package == "tailer"]
    modules = dict.fromkeys(module for module, _, name in names if f"{module}.{name}" not in whole)
    for module in [*modules, *whole]:
        yield from ["", f"## {module}", "", "```{eval-rst}"]
        if module in whole:
            yield f".. automodule:: {module}"
        for name in [name for of, _, name in names if of == module]:
            yield from [f".. {directive(module, name)}:: {module}.{name}", ""]
        yield "```"


def directive(module: str, name: str) -> str:
    """What Sphinx calls a thing of this kind; one that is not there is an error."""
    value = getattr(import_module(module), name)
    if isinstance(value, type):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isfunction(value) else "autodata"


def routes(_page: str) -> Iterator[str]:
    """Each route of openapi.yaml with its parameters and answers."""
    described = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
    resolve = functools.partial(_resolved, described)
    for path, item in described["paths"].items():
        shared = item.pop("parameters", [])
        for method, operation in item.items():
            yield from ["", f"## `{method.upper()} {path}`", "", operation["summary"] + ".", ""]
            yield from [operation.get("description", ""), ""]
            parameters = [resolve(one) for one in [*shared, *operation.get("parameters", [])]]
            if parameters:
                yield from ["| parameter | in | |", "|---|---|---|"]
                yield from (row(f"`{one['name']}`", one["in"], one.get("description", "")) for one in parameters)
            answers = {status: resolve(answer) for status, answer in operation["responses"].items()}
            yield from ["", "| status | |", "|---|---|"]
            yield from (row(status, answer["description"]) for status, answer in sorted(answers.items()))


def row(*cells: str) -> str:
    """A table's row."""
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells) + " |"


def _resolved(described: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """The part itself, or the one that it refers to."""
    return functools.reduce(operator.getitem, one["$ref"].split("/")[1:], described) if "$ref" in one else one


MORE = {"README": navigation, "docs/api": reference, "docs/http": routes}
"""What is put at a page's end."""


def extend(_app: Sphinx, page: str, source: list[str]) -> None:
    """Give a page what it has on the site only."""
    if page in MORE:
        source[0] += "\n" + "\n".join(MORE[page](source[0])) + "\n"


def skip(_app: Sphinx, _kind: str, _name: str, member: object, _skipped: bool, _options: object) -> bool | None:
    """Leave out what Python itself writes about a named tuple's fields."""
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field number") else None


def finish(app: Sphinx, failure: Exception | None) -> None:
    """Let the site's own address show its first page."""
    if not failure:
        shutil.copy(app.outdir / "README.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    """Sphinx calls it."""
    app.connect("source-read", extend)
    app.connect("autodoc-skip-member", skip)
    app.connect("build-finished", finish)
