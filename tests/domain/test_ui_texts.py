"""Dates and values of other nodes in the name of a file."""

import pytest

from tests.domain.ui_files import converted, image, save


@pytest.mark.parametrize(
    ("prefix", "sent"),
    [
        ("%EmptyImage.width%x%EmptyImage.height%", "8x9"),
        ("%My image.width%", "8"),
        ("%Other.name%", "a_b_ c"),
        ("%Other.size%/%Other.on%/%Other.share%", "3/true/1.5"),
        ("50 % of %width%", "50 % of %width%"),
    ],
)
def test_values_of_other_nodes_in_the_name_of_a_file(prefix: str, sent: str) -> None:
    required = {"name": ["STRING"], "size": ["FLOAT"], "on": ["BOOLEAN"], "share": ["FLOAT"]}
    target = save(3, 1)
    target["widgets_values"] = [prefix]
    first = image(1, 8, 9, title="My image", properties={"Node name for S&R": "EmptyImage"})
    other = {"id": 2, "type": "X", "title": "Other", "widgets_values": ["a/b? c", 3.0, True, 1.5]}
    again = image(4, 70, 70, properties={"Node name for S&R": "EmptyImage"})
    graph, warnings = converted(
        {"nodes": [target, first, other, again], "links": [[1, 1, 0, 3, 0, "IMAGE"]]},
        X={"input": {"required": required}, "output": []},
    )
    assert graph["3"]["inputs"]["filename_prefix"] == sent
    assert warnings == ()


@pytest.mark.parametrize("prefix", ["%date:yyyy%", "%Nobody.width%", "%EmptyImage.nothing%"])
def test_what_is_not_replaced_is_told(prefix: str) -> None:
    target = save(2, 1)
    target["widgets_values"] = [prefix]
    graph, warnings = converted({"nodes": [image(1, 8, 9), target], "links": [[1, 1, 0, 2, 0, "IMAGE"]]})
    assert graph["2"]["inputs"]["filename_prefix"] == prefix
    assert prefix in warnings[0]
