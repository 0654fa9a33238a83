from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from hscc.errors import ArtifactError
from hscc.pipeline.report.html.sections.insight_section import LONGEST_SIDE, embed


def test_a_picture_is_made_small_and_put_inside(tmp_path: Path) -> None:
    Image.new("RGB", (2 * LONGEST_SIDE, LONGEST_SIDE), "teal").save(tmp_path / "a.png")
    found = embed(tmp_path, "a.png")
    assert (found.width, found.height) == (LONGEST_SIDE, LONGEST_SIDE // 2)
    with Image.open(io.BytesIO(base64.b64decode(found.address.partition(",")[2]))) as image:
        assert (image.format, image.size) == ("WEBP", (LONGEST_SIDE, LONGEST_SIDE // 2))


@pytest.mark.parametrize("name", ["../a.png", "b.png", "/a.png", "folder/a.png"])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "folder" / "a.png"):
        Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(ArtifactError, match="run `hscc insight` again"):
        embed(tmp_path / "folder" / ".." if name.startswith("folder") else tmp_path / "folder", name)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(ArtifactError, match="is no picture"):
        embed(tmp_path, "a.png")
