"""The prompt in the graph of nodes that ComfyUI writes into images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PROMPT_INPUTS = ("text", "text_g", "text_l", "clip_l", "t5xxl", "prompt")
"""Of nodes that encode a prompt."""

TEXT_INPUTS = ("text", "value", "string", "prompt")
"""Of nodes that only hold a text."""

CONDITIONINGS = ("positive", "conditioning")
"""Beginnings of the names of inputs that a prompt comes through."""


def prompt_of_graph(graph: Any) -> str | None:
    """The prompt of a ComfyUI graph, where it is unambiguous.

    The way goes from the ``positive`` input of samplers (and the conditioning of guiders) back to the texts. It is
    unambiguous where all ways lead to one text, and no way leads to a node that is not understood.

    Args:
        graph: nodes by name, each with ``class_type`` and ``inputs``; a link is a list of a node's name and a number.

    Returns:
        The text, or None where there is none or more than one.
    """
    if not isinstance(graph, Mapping):
        return None
    nodes = {str(name): node["inputs"] for name, node in graph.items() if _is_node(node)}
    kinds = {str(name): str(node.get("class_type", "")) for name, node in graph.items() if _is_node(node)}
    links = [link for name, inputs in nodes.items() for link in _starts(kinds[name], inputs)]
    texts: set[str | None] = set()
    seen: set[str] = set()
    while links:
        name = _linked(links.pop())
        if name is None or name in seen:
            continue
        seen.add(name)
        said = list(_texts(nodes.get(name, {}), nodes))
        further = [] if said else _conditionings(nodes.get(name, {}))
        texts.update(said or ([] if further else [None]))
        links += further
    return texts.pop() if len(texts) == 1 else None


def _is_node(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("inputs"), Mapping)


def _linked(value: Any) -> str | None:
    """The name of the node that an input comes from."""
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int))
    return str(value[0]) if is_link else None


def _starts(kind: str, inputs: Mapping[str, Any]) -> list[Any]:
    """The links that the prompt of a picture comes through, of a node that makes one."""
    if "positive" in inputs and ("negative" in inputs or "sampler" in kind.lower()):
        return [inputs["positive"]]
    return [inputs["conditioning"]] if kind.endswith("Guider") and "conditioning" in inputs else []


def _conditionings(inputs: Mapping[str, Any]) -> list[Any]:
    return [value for key, value in inputs.items() if key.startswith(CONDITIONINGS) and _linked(value) is not None]


def _texts(inputs: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[str | None]:
    """The texts of a node that encodes a prompt; None for one that comes from somewhere that is not understood."""
    for key in PROMPT_INPUTS:
        value = inputs.get(key)
        if isinstance(value, str):
            if value.strip():
                yield value.strip()
        elif (name := _linked(value)) is not None:
            held = nodes.get(name, {})
            found = {one.strip() for name in TEXT_INPUTS if isinstance(one := held.get(name), str)}
            yield found.pop() if len(found) == 1 else None
