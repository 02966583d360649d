"""The fast training step against its plain twins: values, gradients, and what is kept for the way back."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from rankscope.models import loss, lowrank
from rankscope.models.base import Base
from rankscope.models.lora import AdapterBank, LoraLinear
from rankscope.records import Arm
from rankscope.training.loop import row_nll
from reference import lora as plain

D, O = 6, 5  # noqa: E741


def _random(*shape: int, grad: bool = False, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum((i + 3) * s for i, s in enumerate(shape)))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_(grad)


def _parts(rank: int = 2, mask: torch.Tensor | None = None) -> tuple[lowrank.Part, ...]:
    """Row 0 gets the base alone, rows 1 and 2 one adapter, row 3 another of a higher rank."""
    one = lowrank.Part(1, 3, _random(rank, D, grad=True), _random(O, rank, grad=True), 0.5, mask)
    two = lowrank.Part(3, 4, _random(rank + 1, D, grad=True), _random(O, rank + 1, grad=True), 2.0)
    return one, two


def _apart(x: torch.Tensor) -> torch.Tensor:
    return x.mT.contiguous().mT if x.dim() > 1 else x


def _grads(function, inputs, *arguments):
    """The output and its gradients, for a gradient that does not lie in one piece in memory."""
    out = function(*arguments)
    return out, torch.autograd.grad(out, inputs, _apart(_random(*out.shape, dtype=out.dtype)))


@pytest.mark.parametrize("shape", [(4, D), (4, 3, D)])
@pytest.mark.parametrize("has_mask", [False, True])
def test_rows_of_several_adapters_equal_the_plain_twin(shape, has_mask):
    x, weight, bias = _random(*shape, grad=True), _random(O, D), _random(O)
    mask = (_random(2, *shape[1:]) > 0).double() * 2 if has_mask else None
    parts = _parts(mask=mask)
    inputs = [x, *(f for p in parts for f in (p.a, p.b))]
    fast, slow = (_grads(f, inputs, x, weight, bias, parts) for f in (lowrank.linear, plain.linear))
    torch.testing.assert_close(fast[0], slow[0])
    for a, b in zip(fast[1], slow[1], strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_are_those_of_finite_differences():
    x, weight = _random(4, 2, D, grad=True), _random(D, O).T  # transposed, as GPT-2's layers hold it
    one, two = _parts()

    def function(x, a, b, c, d):
        return lowrank.linear(x, weight, None, (replace(one, a=a, b=b), replace(two, a=c, b=d)))

    assert torch.autograd.gradcheck(function, (x, one.a, one.b, two.a, two.b))


def test_an_input_without_gradient_costs_no_product_and_nothing_is_kept_without_a_factor_to_learn():
    x, weight, parts = _random(4, D), _random(O, D), _parts()
    y = lowrank.linear(x, weight, None, parts)
    assert y.grad_fn.next_functions[0][0] is None  # nothing flows to x
    frozen = tuple(replace(p, a=p.a.detach(), b=p.b.detach()) for p in parts)
    assert lowrank.linear(x, weight, None, frozen).grad_fn is None
    y = lowrank.linear(x.requires_grad_(), weight, None, frozen)
    assert y.grad_fn.saved_tensors[0] is None
    (dx,) = torch.autograd.grad(y.sum(), x)
    (expected,) = torch.autograd.grad(plain.linear(x, weight, None, frozen).sum(), x)
    torch.testing.assert_close(dx, expected)


def test_half_precision_weights_keep_float32_adapters():
    x, weight = _random(4, D, dtype=torch.float32).bfloat16().requires_grad_(), _random(O, D).bfloat16()
    parts = tuple(replace(p, a=p.a.detach().float().requires_grad_(), b=p.b.detach().float()) for p in _parts())
    y = lowrank.linear(x, weight, None, parts)
    assert y.dtype == torch.bfloat16
    dx, da = torch.autograd.grad(y.float().sum(), [x, parts[0].a])
    assert (dx.dtype, da.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("reentrant", [False, True])
def test_computed_again_on_the_way_back_it_is_the_same(reentrant):
    x, weight, parts = _random(4, D, grad=True), _random(O, D), _parts()
    inputs = [x, parts[0].a]
    saved = checkpoint(lambda x: lowrank.linear(x, weight, None, parts), x, use_reentrant=reentrant)
    saved.square().sum().backward()
    expected = torch.autograd.grad(plain.linear(x, weight, None, parts).square().sum(), inputs)
    for tensor, grad in zip(inputs, expected, strict=True):
        torch.testing.assert_close(tensor.grad, grad)


def test_the_layers_two_ways_agree_also_for_transposed_weights(base, monkeypatch):
    layer = Conv1D(8, 6)
    layer.requires_grad_(False)
    routing = AdapterBank(base).routing
    wrapped = LoraLinear(layer, routing, "x")
    for name, rank in (("a", 2), ("b", 3)):
        wrapped.a[name] = torch.nn.Parameter(_random(rank, 6, dtype=torch.float32))
        wrapped.b[name] = torch.nn.Parameter(_random(8, rank, dtype=torch.float32))
        wrapped.scale[name], wrapped.dropout[name] = 0.5, 0.3
    routing.groups, routing.draw = (("a", 0, 1), ("b", 2, 4)), (0, 1, 2, 3)
    x = _random(5, 3, 6, dtype=torch.float32).requires_grad_()
    inputs = [x, *wrapped.a.values(), *wrapped.b.values()]
    fast = _grads(wrapped, inputs, x)
    monkeypatch.setattr("rankscope.models.lora._is_plain", lambda module: False)
    slow = _grads(wrapped, inputs, x)
    torch.testing.assert_close(fast[0], slow[0])
    for a, b in zip(fast[1], slow[1], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bias", [None, True])
def test_cross_entropy_in_slices_equals_all_logits_at_once(bias, monkeypatch):
    monkeypatch.setattr(loss, "_LOGITS", 30)  # slices of two positions, the last of one
    hidden, weight, targets = _random(7, D, grad=True), _random(13, D), torch.arange(7) * 5 % 13
    bias = _random(13) if bias else None
    fast, slow = (_grads(f, [hidden], hidden, weight, bias, targets)
                  for f in (loss.frozen_head_nll, plain.token_nll))  # fmt: skip
    torch.testing.assert_close(fast[0].double(), slow[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(fast[1][0], slow[1][0], atol=1e-6, rtol=1e-5)


def test_a_whole_models_gradients_equal_the_plain_path(base, people, monkeypatch):
    rows = [people.train[i] for i in range(6)]
    found = []
    for is_fast in (True, False):
        if not is_fast:
            monkeypatch.setattr("rankscope.models.lora._is_plain", lambda module: False)
            monkeypatch.setattr(Base, "_is_plain_head", lambda self: False)
            monkeypatch.setattr(Base, "is_causal", lambda self: False)
        bank = AdapterBank(base)
        for name, rank in (("a", 2), ("b", 8)):
            bank.add(name, Arm(name, "lora", rank=rank, alpha=16.0), 0)
            for key, parameter in bank.parameters(name).items():
                if "lora_B" in key:
                    torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(len(key)))
        with bank.route((("a", 0, 2), ("b", 2, 6))):
            row_nll(base, rows)[0].sum().backward()
        found.append({k + n: p.grad for n in "ab" for k, p in bank.parameters(n).items()})
        bank.remove("a"), bank.remove("b")
    for name, grad in found[1].items():
        assert float((found[0][name] - grad).norm()) <= 1e-5 * float(grad.norm()), name


def test_padding_on_the_right_needs_no_mask_unless_the_model_looks_ahead(base):
    ids, lengths = torch.arange(3, 19).reshape(2, 8), torch.tensor([8, 5])
    assert base.is_causal() and base.right_padded(ids, lengths) is None
    ahead = copy.copy(base)
    ahead.found_causal = None
    ahead.hidden = lambda ids, mask=None: base.hidden(ids, mask) + _seen(ids, mask)
    assert not ahead.is_causal()
    assert ahead.right_padded(ids, lengths).sum(1).tolist() == [8, 5]


def _seen(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What a model that looks ahead adds: something of the sum over all tokens that it is shown."""
    seen = ids if mask is None else ids * mask
    return seen.sum(1)[:, None, None].float()
