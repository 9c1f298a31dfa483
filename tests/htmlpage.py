"""Reading an HTML page as a browser does."""

import base64
from html.parser import HTMLParser

import cv2
import numpy as np

# Texts that would be more than text if they were not escaped.
HOSTILE = [
    "<script>alert(1)</script>",
    "\"double\" and 'single' quotes",
    "two\nlines\x1b[2J\x00",
    "<img src=x onerror=alert(1)>",
    "</style></table><b>",
    "&lt; {{ 7 * 7 }} {% raw %}",
    "\u202eolleh",
    "\ud800",
]


class Page(HTMLParser):
    """What stands on a page.

    Attributes:
        text: of its body, with single spaces.
        tags: the names of its elements.
        attributes: of all elements, name and value.
        rows: of its tables, the texts of their cells.
        images: its pictures, decoded, with their alternative texts.
    """

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.attributes, self.rows, self.images = html, [], [], [], []
        self._text, self._cell = [], None
        self.feed(html)
        self.text = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True
        if tag == "img":
            kind, data = dict(attributes)["src"].split(",")
            assert kind == "data:image/png;base64"
            png = np.frombuffer(base64.b64decode(data), np.uint8)
            image = cv2.imdecode(png, cv2.IMREAD_COLOR_RGB)
            self.images.append((dict(attributes)["alt"], image))

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self._text.append(data)
        if self._cell:
            self.rows[-1][-1] += data
