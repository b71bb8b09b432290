"""The site that `make site` builds of the documents."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.stack import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PUBLIC = re.findall(r"^\| `((?:tailer|worker)[\w.]*)` \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
LOADING = {"src", "srcset", "poster", "data"}
"""Attributes by which a page loads something; `href` does so in a `link`, and for a use of an SVG."""


pytestmark = pytest.mark.xdist_group("site")  # it is built once


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make site` does: any warning fails it, a link to nowhere and a page in no list too."""
    out = tmp_path_factory.mktemp("site")
    target = subprocess.run(["make", "-n", "site"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    (line,) = [line for line in target.stdout.splitlines() if "sphinx" in line]
    options = line.partition("-m sphinx ")[2].replace("build/", f"{out}/").split()
    build = [sys.executable, "-m", "sphinx", *options]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "site"


class Page(HTMLParser):
    """What a page of the site loads, links to and has anchors for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads, self.links, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        """Sort out the attributes of one element."""
        for name, value in attrs:
            loading = name in LOADING or (name == "href" and tag in {"link", "use", "image"})
            if loading:
                self.loads.append(value)
            elif name == "href":
                self.links.append(value)
            elif name == "id":
                self.anchors.add(value)


def pages_of(site):
    """Each page of the site by its path."""
    return {path.relative_to(site): Page(path) for path in site.rglob("*.html")}


def test_the_site_loads_nothing_from_elsewhere(site):
    """No page, style or script of it names anything to load that is not part of the site."""
    for path, page in pages_of(site).items():
        assert page.loads, path
        for target in page.loads:
            file = (site / path).parent / re.split(r"[?#]", target)[0]
            assert target.startswith(("data:", "#")) or file.is_file(), f"{path} loads {target}"
    for file in [*site.rglob("*.css"), *site.rglob("*.js"), *site.rglob("*.html")]:
        text = file.read_text()
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import\s+['\"]?(https?:)?//", text), file
        assert not re.search(r"(import|fetch|importScripts|Worker)\(\s*['\"`](https?:)?//", text), file


def test_every_page_is_in_the_navigation(site):
    """The list beside each page has all documents, which the README lists too, so that people find them on a forge."""
    listed = (ROOT / "README.md").read_text().partition("\n## More\n")[2]
    links = {link.partition("#")[0] for link in Page(site / "index.html").links}

    for path in PAGES:
        name = str(path.relative_to(ROOT).with_suffix(""))
        assert (site / f"{name}.html").is_file(), name
        if name != "README":
            assert f"{name}.html" in links, f"{name}.md is in no navigation"
            assert f"]({name}.md)" in listed, f"README.md does not list {name}.md under More"


def test_every_public_name_is_explained(site):
    """The page of what is public has a docstring for each name that it lists, and for their methods."""
    page = (site / "docs" / "api.html").read_text()
    explained = set(re.findall(r'<dt [^>]*id="([\w.]+)">(?:(?!</dt>).)*</dt>\s*<dd><p>', page, re.DOTALL))

    assert {name for name in PUBLIC if name != "tailer.errors"} <= explained
    assert {"tailer.store.LogStore.append", "tailer.errors.LogExpired"} <= explained


def test_every_route_is_on_the_site(site):
    """The page of routes is made from the description that programs read."""
    text = (site / "docs" / "http.html").read_text()
    paths = re.findall(r"^  (/\S*):$", (ROOT / "docs" / "openapi.yaml").read_text(), re.MULTILINE)

    assert len(paths) > 10
    for path in paths:
        assert f">{path}</span></code>" in text, path
