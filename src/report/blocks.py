"""The blocks that a section of the report is made of; the template turns each into HTML."""


def text(content):
    return {"kind": "text", "text": content}


def bullets(*lines):
    return {"kind": "list", "lines": list(lines)}


def table(header, rows, caption="", words=()):
    """A table; the first column holds names, the others numbers, or those at the places `words` text."""
    return {"kind": "table", "header": list(header), "rows": [list(map(str, row)) for row in rows], "caption": caption,
            "words": list(words)}


def figures(*pictures):
    """Pictures side by side where there is room; see panels.picture and panels.drawn_before."""
    return {"kind": "figures", "figures": [picture for picture in pictures if picture]}


def details(summary, content):
    """A text that is shown on demand."""
    return {"kind": "details", "summary": summary, "text": content}
