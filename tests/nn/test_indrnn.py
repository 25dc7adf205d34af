"""IndRNN: its recurrence, its bound, and deep stacks of it."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.nn import IndRNN, IndRNNStack, SequenceClassifier, indrnn_bound
from lightning_fw.nn.bounded import bounded
from lightning_fw.nn.elementwise import relu_recurrence
from tests.nn.gradients import INPUTS, UNITS, assert_follows, assert_gradcheck


def step(layer, x, h):
    b = 0 if layer.bias is None else layer.bias
    u = torch.clamp(layer.weight_hh, -layer.bound, layer.bound)
    return torch.relu(x @ layer.weight_ih.T + u * h + b)


def inside(**settings):
    torch.manual_seed(0)
    layer = IndRNN(INPUTS, UNITS, bound=1.2, **settings)
    with torch.no_grad():
        layer.weight_hh.copy_(torch.tensor([-0.9, 0.3, 1.1, 0.7]))
    return layer


def test_a_layer_starts_with_memories_of_all_lengths():
    layer = IndRNN(4, 400, bound=1.5)
    assert layer.weight_hh.min() >= 0
    assert 1.4 < layer.weight_hh.max() <= 1.5
    assert 0.045 < layer.weight_ih.abs().max() <= 1 / 20
    assert not layer.bias.any()


@pytest.mark.parametrize("bias", [True, False])
def test_states_and_gradients_are_those_of_the_loop(bias):
    assert_follows(inside(bias=bias), step)


def test_gradients_are_those_of_finite_differences():
    assert_gradcheck(inside())


def test_a_relu_at_zero_has_no_gradient_as_in_torch():
    z = torch.zeros(3, 1, 2, requires_grad=True)
    relu_recurrence(z, torch.ones(2), torch.zeros(1, 2)).sum().backward()
    assert not z.grad.any()


def test_a_part_of_the_arguments_may_need_no_gradient():
    z, u, h = torch.randn(5, 2, 3), torch.rand(3, requires_grad=True), torch.rand(2, 3)
    states = relu_recurrence(z, u, h)
    states.sum().backward()
    assert u.grad.any()
    assert z.grad is None and h.grad is None


@pytest.mark.parametrize(
    "function", [lambda w: bounded(w, 2.0), lambda w: relu_recurrence(w, w[0, 0], w[0])]
)
def test_a_second_derivative_is_refused(function):
    w = torch.rand(1, 1, 1, requires_grad=True)
    (slope,) = torch.autograd.grad(function(w).square().sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_gradients_of_views_reach_the_recurrence():
    layer = inside()
    x = torch.randn(2, 5, INPUTS)
    output, _ = layer(x.transpose(0, 1))
    output[-1].sum().backward()  # the other steps' gradients are zeros
    last = layer.weight_hh.grad.clone()
    layer.zero_grad()
    output, h_n = layer(x.transpose(0, 1))
    h_n.sum().backward()  # an expanded gradient
    torch.testing.assert_close(layer.weight_hh.grad, last)


def test_the_wider_dtype_keeps_the_states_under_autocast():
    layer = inside()
    x = torch.randn(50, 2, INPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(x)
        output.sum().backward()
    assert output.dtype == torch.float32
    assert layer.weight_hh.grad.dtype == torch.float32
    assert layer.to(torch.bfloat16)(x.to(torch.bfloat16))[0].dtype == torch.bfloat16


@pytest.mark.parametrize("wide", range(3))
def test_states_are_in_the_widest_dtype_of_all_that_they_come_from(wide):
    parts = [torch.zeros(2, 1, 3), torch.ones(3), torch.zeros(1, 3)]
    parts[wide] = parts[wide].double()
    assert relu_recurrence(*parts).dtype == torch.float64


def test_half_precision_adds_up_the_gradient_of_the_recurrence_in_float32():
    z = torch.ones(1000, 1, 1, dtype=torch.bfloat16)
    u = torch.full((1,), 0.5, dtype=torch.bfloat16, requires_grad=True)
    relu_recurrence(z, u, torch.zeros(1, 1, dtype=torch.bfloat16)).sum().backward()
    assert u.grad.dtype == torch.bfloat16
    # h = z / (1 - u) = 2 and δ = 1 / (1 - u) = 2 but at the ends.
    assert u.grad.item() == pytest.approx(4000, rel=0.01)


def test_the_bound_holds_and_no_gradient_grows_past_it():
    steps = 100
    layer = IndRNN(1, 3, bound=indrnn_bound(steps)).double()
    with torch.no_grad():
        layer.weight_hh.copy_(torch.tensor([5.0, -7.0, 0.5]))
    hx = torch.ones(1, 1, 3, dtype=torch.float64, requires_grad=True)
    x = torch.zeros(steps, 1, 1, dtype=torch.float64)
    layer(x, hx)[1].sum().backward()
    torch.testing.assert_close(hx.grad.flatten()[0].item(), 2.0)
    assert hx.grad.abs().max() <= 2 + 1e-9


@pytest.mark.parametrize("start", [3.0, -3.0, 1.0, -1.0])
def test_a_weight_at_or_outside_the_bound_moves_only_inwards(start):
    w = torch.tensor([start], requires_grad=True)
    (bounded(w, 1.0) * start).sum().backward()  # descent leads back inside
    assert w.grad.item() == start
    w.grad = None
    (bounded(w, 1.0) * -start).sum().backward()  # descent leads further out
    assert w.grad.item() == 0


def test_a_weight_that_was_carried_outside_comes_back():
    w = torch.nn.Parameter(torch.tensor([4.0]))
    outer = torch.optim.SGD([w], lr=0.5)
    for _ in range(50):
        outer.zero_grad()
        (bounded(w, 1.0) - 0.25).square().sum().backward()
        outer.step()
    assert w.item() == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_stack_is_its_layers_norms_and_no_more_in_evaluation(batch_first):
    stack = IndRNNStack(3, 5, num_layers=2, dropout=0.5, batch_first=batch_first).eval()
    for norm in stack.norms:
        norm.running_mean.uniform_()
        norm.running_var.uniform_(1, 2)
    x, hx = torch.randn(7, 4, 3), torch.rand(2, 4, 5)
    first, _ = stack.layers[0](x, hx[:1])
    first = stack.norms[0](first.reshape(28, 5)).reshape(7, 4, 5)
    second, _ = stack.layers[1](first, hx[1:])
    expected = stack.norms[1](second.reshape(28, 5)).reshape(7, 4, 5)
    output, h_n = stack(x.transpose(0, 1) if batch_first else x, hx)
    output = output.transpose(0, 1) if batch_first else output
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(h_n[1], second[-1])


def test_a_stack_goes_on_where_a_sequence_was_cut():
    stack = IndRNNStack(3, 5, num_layers=3).eval()
    x = torch.randn(8, 4, 3)
    whole, last = stack(x)
    _, middle = stack(x[:3])
    rest, end = stack(x[3:], middle)
    torch.testing.assert_close(rest, whole[3:])
    torch.testing.assert_close(end, last)


def test_batch_norm_is_over_the_batch_and_time():
    stack = IndRNNStack(3, 5, num_layers=1)
    output, _ = stack(torch.randn(50, 20, 3))
    units = output.detach().flatten(0, 1)
    torch.testing.assert_close(units.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(units.var(0, correction=0), torch.ones(5), atol=1e-2, rtol=0)


def test_a_lone_step_of_a_lone_sequence_has_no_statistics_of_its_own():
    stack = IndRNNStack(2, 4, num_layers=2, batch_first=True)
    stack(torch.randn(5, 6, 2))
    known = [norm.running_mean.clone() for norm in stack.norms]
    x = torch.randn(1, 1, 2)
    in_training, _ = stack(x)
    assert all(map(torch.equal, known, (norm.running_mean for norm in stack.norms)))
    in_evaluation, _ = stack.eval()(x)
    assert torch.equal(in_training, in_evaluation)


@pytest.mark.parametrize("cell", ["indrnn", "indrnn-stack"])
def test_a_network_is_exported_and_differentiated_by_torch_func(cell):
    model = SequenceClassifier(cell, input_size=2, output_size=3, hidden_size=4).eval()
    x = torch.randn(4, 9, 2)
    exported = torch.export.export(model, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), model(x))
    parameters = dict(model.named_parameters())

    def squared(parameters):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    gradients = torch.func.grad(squared)(parameters)
    squared(parameters).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_a_dropped_unit_is_dropped_at_all_steps():
    torch.manual_seed(0)
    stack = IndRNNStack(3, 50, num_layers=1, dropout=0.4)
    zero = stack(torch.randn(9, 40, 3))[0] == 0
    assert (zero.all(0) == zero.any(0)).all()
    # Each sequence has units of its own that are dropped.
    assert len(zero[0].unique(dim=0)) == 40
    assert zero[0].float().mean().item() == pytest.approx(0.4, abs=0.05)  # of 2000 units
    assert not (stack.eval()(torch.randn(9, 40, 3))[0] == 0).all(0).any()


def test_the_last_layer_starts_with_the_longest_memory():
    bound = indrnn_bound(100, growth=5.0)
    stack = IndRNNStack(1, 200, num_layers=3, bound=bound)
    assert stack.layers[0].weight_hh.min() < 0.1
    assert stack.layers[-1].weight_hh.min() >= 1 / bound
    assert stack.layers[-1].weight_hh.max() <= bound
    assert {layer.bound for layer in stack.layers} == {bound}


def test_a_bound_below_one_is_where_the_last_layer_starts():
    stack = IndRNNStack(1, 5, num_layers=2, bound=0.5)
    assert (stack.layers[-1].weight_hh == 0.5).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: IndRNN(2, 3, bound=0.0), ValueError, "`bound` must be positive, got 0.0"),
        (lambda: IndRNN(2, 3, bound="1"), TypeError, "`bound` must be a number, got '1'"),
        (lambda: IndRNN(0, 3), ValueError, "`input_size` must be at least 1, got 0"),
        (lambda: IndRNN(2, 3.0), TypeError, "`hidden_size` must be an int, got 3.0"),
        (lambda: IndRNNStack(2, 3, num_layers=0), ValueError, "`num_layers` must be at least 1"),
        (lambda: IndRNNStack(2, 3, dropout=1.0), ValueError, r"`dropout` must be in \[0, 1\), got"),
        (lambda: indrnn_bound(0), ValueError, "`steps` must be at least 1, got 0"),
        (lambda: indrnn_bound(3, growth=-1), ValueError, "`growth` must be positive, got -1"),
    ],
)
def test_bad_settings_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("layer", [IndRNN, IndRNNStack])
@pytest.mark.parametrize(
    ("batch_first", "x", "hx", "message"),
    [
        (False, (5, 4, 2), None, r"`x` must have the shape \(time, batch, 3\) .*got \(5, 4, 2\)"),
        (True, (4, 5), None, r"`x` must have the shape \(batch, time, 3\) .*got \(4, 5\)"),
        (True, (4, 0, 3), None, r"time >= 1, got \(4, 0, 3\)"),
        (False, (5, 4, 3), (1, 5, 6), r"`hx` must have the shape \(\d, 4, 6\), got \(1, 5, 6\)"),
    ],
)
def test_other_shapes_are_told(layer, batch_first, x, hx, message):
    with pytest.raises(ValueError, match=message):
        layer(3, 6, batch_first=batch_first)(
            torch.zeros(x), None if hx is None else torch.zeros(hx)
        )
