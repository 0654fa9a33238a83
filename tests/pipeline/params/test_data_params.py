from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from hscc.pipeline.params import Params

ROOT = Path(__file__).parents[3]


@given(train=st.floats(0.01, 0.99), val=st.floats(0.01, 0.99))
def test_a_test_split_always_remains(train: float, val: float) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["data"].update(train_fraction=train, val_fraction=val)
    try:
        data = Params.model_validate(values).data
    except ValueError:
        assert train + val >= 1
    else:
        assert data.train_fraction + data.val_fraction < 1
