"""A page as a test reads it."""

from html.parser import HTMLParser

VOID = {"meta", "img"}


class ParsedPage(HTMLParser):
    """Texts, cells of tables, addresses and tags of a page; every element has to be closed."""

    def __init__(self, html):
        super().__init__()
        self.text, self.cells, self.sources, self.tags, self.open = [], [], [], [], []
        self.feed(str(html))  # of a macro it is Markup, which would escape again what it is added to
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    @property
    def words(self):
        """All texts, with single spaces."""
        return " ".join("".join(self.text).split())
