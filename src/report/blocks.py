"""The blocks that a section of the report is made of beside paragraphs, which are strings; the template makes HTML."""


def bullets(*lines):
    return {"kind": "list", "lines": list(lines)}


def table(header, rows, caption="", words=()):
    """A table; the first column holds names, the others numbers, or those at the places `words` text."""
    return {"kind": "table", "header": list(header), "rows": [list(map(str, row)) for row in rows], "caption": caption,
            "words": list(words)}


def figures(*pictures):
    """Pictures of `panels` side by side where there is room."""
    return {"kind": "figures", "figures": [picture for picture in pictures if picture]}
