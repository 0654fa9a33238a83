from __future__ import annotations

import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.report.blocks import fill

BLOCKS = {"one": lambda: "1 ± 0.5\\d", "two": lambda: "| a |"}


def test_blocks_are_filled_and_the_rest_stays() -> None:
    text = "a\n<!-- figures: one -->\nold\n<!-- end -->\nb\n<!-- figures: two -->\n<!-- end -->\nc 1\n"
    filled = fill(text, BLOCKS, "x.md")
    assert filled == (
        "a\n<!-- figures: one -->\n\n1 ± 0.5\\d\n\n<!-- end -->\nb\n"
        "<!-- figures: two -->\n\n| a |\n\n<!-- end -->\nc 1\n"
    )
    assert fill(filled, BLOCKS, "x.md") == filled


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"x\.md marks figures 'three'"):
        fill("<!-- figures: three -->\n<!-- end -->", BLOCKS, "x.md")


@pytest.mark.parametrize(
    "text",
    ["<!-- figures: one -->\n", "<!-- end -->", "<!-- figures: one -->\n<!-- figures: two -->\n<!-- end -->"],
)
def test_a_mark_without_its_partner_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="has no partner"):
        fill(text, BLOCKS, "x.md")
