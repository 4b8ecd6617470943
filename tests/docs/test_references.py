"""Works that the pages name by author and year are in the list of literature, with an address."""

import re

from tests.house import ROOT

LIST = ROOT / "docs" / "references.md"
NAMES = r"((?:van der )?[A-ZŠ][\w-]+(?:'s \w+)?)(?:(?:, [A-Z][\w-]+)*,? (?:and|&) [\w-]+| et al\.)?"
CITATION = re.compile(NAMES + r",? \(?((?:19|20)\d\d)(?!\d|-)")


def citations(text):
    """First authors and years."""
    return set(CITATION.findall(" ".join(text.split())))


def entries():
    return [" ".join(entry.split()) for entry in LIST.read_text("utf-8").split("\n- ")[1:]]


def test_citations_are_found():
    text = "K-FAC (Martens and Grosse 2015), Steihaug's CG (1983), Lee and Hon, 1989; Ba, Grosse and\nMartens (2017), "
    text += "van der Vorst 1992; 2026-11-30, Dauphin and others 2014, since 1970, 784-1000"
    found = {(name.removesuffix("'s CG"), year) for name, year in citations(text)}
    first = ["Martens", "Steihaug", "Lee", "Ba", "van der Vorst", "Dauphin"]
    assert found == set(zip(first, ["2015", "1983", "1989", "2017", "1992", "2014"], strict=True))


def test_what_the_pages_cite_is_in_the_list():
    pages = [ROOT / "README.md", *(page for page in (ROOT / "docs").rglob("*.md") if page != LIST)]
    for page in pages:
        for name, year in citations(page.read_text("utf-8")):
            author = name.partition("'")[0]
            listed = [entry for entry in entries() if re.match(rf"[^(]*{author}\b[^(]*\({year}\)", entry)]
            assert listed, f"{page.name}: {author} {year}"


def test_every_entry_has_authors_a_year_a_title_and_an_address():
    for entry in entries():
        assert re.match(r"[^*()]+ \(\d{4}\), \*[^*]+\*, .*(\]\(https://[^ )]+\)|report \S+,)", entry), entry
