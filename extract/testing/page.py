"""A page of ours taken apart, for tests."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "hr", "input", "link", "wbr"}


class Page(HTMLParser):
    """Elements, attributes and words of a page.

    Parameters
    ----------
    text
        HTML

    Raises
    ------
    AssertionError
        closing tags do not match
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """Called by the parser."""
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Called by the parser."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words, a space between any two elements."""
        return " ".join(" ".join(self.words).split())

    @property
    def joined(self) -> str:
        """All words as they stand: elements inside a word do not part it."""
        return " ".join("".join(self.words).split())

    def sections(self) -> list[str]:
        """The ids of its sections, in order."""
        return [attrs["id"] for tag, attrs in self.elements if tag == "section"]

    def count(self, tag: str, name: str = "class", value: str | None = None) -> int:
        """How many elements of a kind there are; with `value`, how many have that word in an attribute."""
        return sum(
            each == tag and (value is None or value in attrs.get(name, "").split()) for each, attrs in self.elements
        )
