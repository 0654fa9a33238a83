"""Outputs: what is taken of a network's answer, and that divergences are those of the distributions they name."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

import hscc
from hscc.errors import CompressionError
from hscc.outputs import Outputs

KINDS = ["classes", "independent", "values"]
shapes = st.sampled_from([(3, 2), (1, 5), (2, 3, 7), (2, 4, 3, 2), (1, 2, 2, 3, 2)])


def draw(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


Named = namedtuple("Named", ["logits", "auxiliary"])
SCORES, OTHER = draw((4, 3), 0), draw((4, 7), 1)


@pytest.mark.parametrize(
    "raw",
    [
        SCORES,
        {"logits": SCORES, "loss": OTHER},
        OrderedDict(out=SCORES, aux=OTHER),
        {"prediction": SCORES, "names": ["a", "b"]},
        Named(SCORES, OTHER),
        (SCORES, OTHER),
        [SCORES, OTHER],
        Answer(SCORES, OTHER),
    ],
    ids=["tensor", "logits", "out", "only tensor", "named tuple", "tuple", "list", "dataclass"],
)
def test_the_usual_entry_is_found(raw: object) -> None:
    assert Outputs.infer(raw) == Outputs("classes")
    assert torch.equal(Outputs("classes").select(raw), SCORES)


@pytest.mark.parametrize(
    ("raw", "entry"),
    [
        ({"out": OTHER, "aux": SCORES}, "aux"),
        ((OTHER, SCORES), 1),
        (Named(OTHER, SCORES), "auxiliary"),
        (Named(OTHER, SCORES), 1),
        (Answer(OTHER, SCORES), "hidden"),
        (SCORES, "logits"),  # networks with auxiliary heads return a bare tensor in evaluation mode
    ],
)
def test_a_named_entry_is_taken(raw: object, entry: str | int) -> None:
    assert torch.equal(Outputs("classes", entry).select(raw), SCORES)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((4, 2), "classes"),
        ((4, 21, 8, 8), "classes"),
        ((4,), "independent"),
        ((4, 1), "independent"),
        ((4, 1, 8, 8), "independent"),
    ],
)
def test_kinds_are_inferred_from_shapes(shape: tuple[int, ...], kind: str) -> None:
    outputs = Outputs.infer(torch.zeros(shape))
    assert outputs.kind == kind
    assert outputs.select(torch.zeros(shape)).shape == (*shape, 1)[: max(2, len(shape))]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"first": SCORES, "second": OTHER}, r"'first' \(4, 3\).*entry="),
        ([{"boxes": SCORES}], r"0 \(dict\).*entry="),
        ("scores", "without entries"),
        (SCORES.argmax(1), "before they are decided"),
        (torch.tensor(1.0), "one row per image"),
    ],
)
def test_an_unclear_answer_lists_its_entries(raw: object, message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        Outputs.infer(raw)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(CompressionError, match="has no entry 'mask'"):
        Outputs("classes", entry="mask").select({"out": SCORES})
    with pytest.raises(CompressionError, match="'classes', 'independent'"):
        Outputs("softmax")  # type: ignore[arg-type]
    with pytest.raises(CompressionError, match="independent"):
        Outputs("classes").select(torch.zeros(3, 1))
    with pytest.raises(CompressionError, match="3 values and the scale is of 2"):
        Outputs("values", scale=(1.0, 2.0)).select(torch.zeros(4, 3))
    with pytest.raises(CompressionError, match="not positive"):
        Outputs("values", scale=(0.0,))


@given(shapes, st.integers(0, 99), st.floats(0.5, 4))
@settings(max_examples=30, deadline=None)
def test_divergences_are_those_of_the_distributions(shape: tuple[int, ...], seed: int, temperature: float) -> None:
    outputs, targets = draw(shape, seed), draw(shape, seed + 1000)
    scale = torch.rand(shape[1], dtype=torch.float64) + 0.5
    units = scale.reshape(-1, *[1] * (len(shape) - 2))
    soft, softer = targets / temperature, outputs / temperature
    expected = {
        "classes": temperature**2
        * kl_divergence(Categorical(logits=soft.movedim(1, -1)), Categorical(logits=softer.movedim(1, -1))),
        "independent": temperature**2 * kl_divergence(Bernoulli(logits=soft), Bernoulli(logits=softer)).sum(1),
        "values": kl_divergence(Normal(targets, units), Normal(outputs, units)).sum(1),
    }
    for kind in KINDS:
        answer = Outputs(kind, scale=tuple(scale.tolist()) if kind == "values" else ())
        found = answer.divergence(outputs, targets, temperature)
        wanted = expected[kind]
        torch.testing.assert_close(found, wanted.reshape(len(wanted), -1).mean(1))
        assert (answer.divergence(targets, targets, temperature).abs() < 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_is_differentiable_and_least_at_the_target(kind: str) -> None:
    targets = draw((3, 4, 2), 0)
    outputs = targets.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(Outputs(kind).divergence(outputs, targets).sum(), outputs)
    assert float(gradient.abs().max()) < 1e-9
    moved = Outputs(kind).divergence(targets + draw((3, 4, 2), 1), targets)
    assert (moved > 0).all()


def test_sure_answers_keep_their_digits() -> None:
    targets, outputs = torch.tensor([[80.0]]), torch.tensor([[-80.0]])
    assert float(Outputs("independent").divergence(outputs, targets)) == pytest.approx(80)
    assert float(Outputs("independent").divergence(targets, targets)) == 0


def test_centred_is_what_the_answer_depends_on() -> None:
    scores = draw((3, 4, 2), 0)
    assert float(Outputs("classes").centred(scores).sum(1).abs().max()) < 1e-12
    assert torch.equal(Outputs("independent").centred(scores), scores)
    torch.testing.assert_close(Outputs("values", scale=(1, 2, 4, 8)).centred(scores)[:, 2], scores[:, 2] / 4)


def test_values_take_the_deviation_of_the_dense_answers_and_one_where_nothing_varies() -> None:
    measured = Outputs("values").measured(torch.tensor([2.0, 0.0]))
    assert measured.scale == (2.0, 1.0)
    assert Outputs("classes").measured(torch.tensor([2.0])) == Outputs("classes")
    assert Outputs.from_record(measured.to_record()) == measured


def test_half_precision_is_widened_and_double_kept() -> None:
    assert Outputs("classes").select(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
    assert Outputs("classes").select(SCORES).dtype == torch.float64
    assert hscc.Outputs is Outputs
