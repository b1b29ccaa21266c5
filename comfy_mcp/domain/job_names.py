"""What a job is called when nobody named it: by its prompt, its files, or what it does."""

from collections.abc import Iterator

from comfy_mcp.domain.graph import Graph, Node

WORDS, LONGEST = 8, 60
MAX_STEPS = 100
"""Nodes that are passed on the way back from what makes the output."""

_TEXTS = ("text", "prompt", "text_g", "t5xxl", "clip_l", "tags", "value")
_PREFIX = "filename_prefix"
_SAYS_NOTHING = frozenset({"comfyui", "image", "images", "output", "outputs", "video", "audio"})
"""File names that editors and templates give everything."""
_ON_THE_WAY = ("VAEDecode", "CreateVideo", "Reroute")
"""Beginnings of classes that only stand between what does the work and what saves it."""


def prompt_words(graph: Graph) -> str | None:
    """The first words of its prompt: of the text behind the first input that is called positive, or of the
    first long text."""
    behind = (link for node in graph.nodes.values() if (link := node.links.get("positive")) is not None)
    first = next(behind, None)
    encoder = None if first is None else graph.nodes.get(first.node)
    for node in (*(() if encoder is None else (encoder,)), *graph.nodes.values()):
        for name in _TEXTS if not node.inputs.keys().isdisjoint(_TEXTS) else ():
            value = node.inputs.get(name)
            words = value.split(maxsplit=WORDS) if isinstance(value, str) else ()
            if words:
                return " ".join(words[:WORDS])[:LONGEST]
    return None


def purpose(graph: Graph) -> str | None:
    """The name of its files, else what makes its output and what takes it: "ImageScaleBy → SaveImage"."""
    ends = list(_ends(graph))
    prefixes = (_file_name(node.inputs.get(_PREFIX)) for node in ends)
    named = next(filter(None, prefixes), None)
    if named is not None or not ends:
        return named
    last = ends[0]
    work = _behind(graph, last)
    return (last.class_type if work is None else f"{work.class_type} → {last.class_type}")[:LONGEST]


def _ends(graph: Graph) -> Iterator[Node]:
    """Nodes that no other takes anything from: those that save files first."""
    linked = {link.node for node in graph.nodes.values() for link in node.links.values()}
    ends = [node for node in graph.nodes.values() if node.id not in linked]
    yield from sorted(ends, key=lambda node: _PREFIX not in node.inputs)


def _file_name(prefix: object) -> str | None:
    """The last part of a prefix, up to its date and the like: `fox` of `art/fox_%date%`. None for a name that
    every workflow has."""
    name = prefix.replace("\\", "/").rpartition("/")[2] if isinstance(prefix, str) else ""
    name = name[: LONGEST * 2].partition("%")[0].strip(" _-.")[:LONGEST]
    return None if name.lower() in _SAYS_NOTHING else name or None


def _behind(graph: Graph, node: Node) -> Node | None:
    """The node that does the work: the first one on the way back that changes what it takes."""
    found = None
    for _ in range(MAX_STEPS):
        link = next(iter(node.links.values()), None)
        before = None if link is None else graph.nodes.get(link.node)
        if before is None:
            break
        found = node = before
        if not node.class_type.startswith(_ON_THE_WAY):
            break
    return found
