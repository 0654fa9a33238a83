import pytest

from hscc.pipeline.workspace.split_names import find_official


@pytest.mark.parametrize(
    ("names", "official"),
    [
        ({"Training", "Testing"}, {"train": "Training", "val": None, "test": "Testing"}),
        ({"TRAIN", "Valid", "test"}, {"train": "TRAIN", "val": "Valid", "test": "test"}),
        ({"train", "val"}, {"train": "train", "val": None, "test": "val"}),  # the only images to test on
        ({"train", "test", "benign"}, None),
        ({"train", "training", "test"}, None),
        ({"benign", "malignant"}, None),
        ({"train"}, None),
    ],
)
def test_a_split_is_known_by_its_names(names: set[str], official: dict[str, str | None] | None) -> None:
    assert find_official(names) == official
