"""training_step as people write it: what it takes, what it returns, how it is decorated."""

from __future__ import annotations

import copy
import functools
import pickle

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball
from tests.mixin.conftest import Recurrent, make_loader


def loss_of(module, batch):
    return Recurrent.training_step(module, batch, 0)


def without_wraps(method):
    def inner(self, *args, **kwargs):
        return method(self, *args, **kwargs)

    return inner


def with_wraps(method):
    return functools.wraps(method)(without_wraps(method))


class WithIndex(Recurrent):
    def training_step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class WithDefault(Recurrent):
    def training_step(self, batch, batch_idx, dataloader_idx=0):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class WithStar(Recurrent):
    def training_step(self, *args):
        batch, batch_idx = args
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class WithKeywordOnly(Recurrent):
    def training_step(self, batch, batch_idx, *, scale=1.0):
        self.indices.append(batch_idx)
        return scale * loss_of(self, batch)


class WrappedTwice(Recurrent):
    @with_wraps
    @with_wraps
    def training_step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class NotWrapped(Recurrent):
    @without_wraps
    def training_step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class PartialMethod(Recurrent):
    def step(self, batch, batch_idx, stage):
        self.indices.append(batch_idx)
        return loss_of(self, batch)

    training_step = functools.partialmethod(step, stage="train")


class ThroughTwoLevels(WithIndex):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch=batch, batch_idx=batch_idx)


class ThroughThreeLevels(ThroughTwoLevels):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx=batch_idx)


class WrappedAnew(WithIndex):
    """functools.wraps copies the marks of a method that is never called."""

    @functools.wraps(WithIndex.training_step)
    def training_step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class DecoratedInherited(WithIndex):
    training_step = with_wraps(WithIndex.training_step)


class SetOnTheInstance(Recurrent):
    def __init__(self, inner_loop=None):
        super().__init__(inner_loop)
        self.training_step = self.step

    def step(self, batch, batch_idx):
        self.indices.append(batch_idx)
        return loss_of(self, batch)


class SetAroundTheOriginal(WithIndex):
    def __init__(self, inner_loop=None):
        super().__init__(inner_loop)
        original = self.training_step
        self.training_step = lambda batch, batch_idx: original(batch, batch_idx)


class AssignedLater(Recurrent):
    pass


AssignedLater.training_step = WithIndex.training_step.__wrapped__


SIGNATURES = [
    AssignedLater,
    WithIndex,
    WithDefault,
    WithStar,
    WithKeywordOnly,
    WrappedTwice,
    NotWrapped,
    PartialMethod,
    ThroughTwoLevels,
    ThroughThreeLevels,
    WrappedAnew,
    DecoratedInherited,
    SetOnTheInstance,
    SetAroundTheOriginal,
]


@pytest.mark.parametrize("cls", SIGNATURES)
@pytest.mark.parametrize("batches", ["successive", "same"])
def test_every_way_to_write_it_trains_alike(cls, batches, loader, make_trainer):
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=2, batches=batches)
    module, usual = cls(loop), Recurrent(loop)
    module.indices = []
    make_trainer().fit(module, loader)
    make_trainer().fit(usual, loader)
    assert torch.equal(module.weights(), usual.weights())
    evaluations = 2 if batches == "same" else 1
    assert module.indices == [index for index in range(7) for _ in range(evaluations)]
    assert len(module.records) == len(usual.records)


def test_a_second_fit_runs_a_step_set_on_the_instance_once_a_batch(loader, make_trainer):
    module = SetOnTheInstance()
    module.indices = []
    for _ in range(2):
        make_trainer().fit(module, loader)
    assert module.indices == [*range(7), *range(7)]
    assert len(module.records) == 6


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_step_set_on_the_instance_trains_itself(clone, loader, make_trainer):
    module = SetOnTheInstance()
    module.indices = []
    make_trainer().fit(module, loader)
    twin, before = clone(module), module.weights()
    make_trainer().fit(twin, loader)
    assert torch.equal(module.weights(), before)
    assert not torch.equal(twin.weights(), before)
    assert len(module.indices) == 7
    assert len(twin.indices) == 14


def test_autocast_as_a_decorator_is_autocast_inside(loader, make_trainer):
    dtypes = []

    class Inside(Recurrent):
        def training_step(self, batch, batch_idx):
            with torch.autocast("cpu", torch.bfloat16):
                return nn.functional.mse_loss(self.head(batch[0][:, 0].repeat(1, 2)), batch[1])

    class Outside(Recurrent):
        @torch.autocast("cpu", torch.bfloat16)
        def training_step(self, batch, batch_idx):
            output = self.head(batch[0][:, 0].repeat(1, 2))
            dtypes.append(output.dtype)
            return nn.functional.mse_loss(output, batch[1])

    loop = InnerLoop(ball=L2Ball(radius=0.2), steps=4, batches="same")
    decorated, inside = Outside(loop), Inside(loop)
    make_trainer().fit(decorated, loader)
    make_trainer().fit(inside, loader)
    assert set(dtypes) == {torch.bfloat16}
    assert torch.equal(decorated.weights(), inside.weights())


def test_the_anchor_is_seen_fresh_inside_the_users_autocast(loader, make_trainer):
    pairs = []

    class Both(Recurrent):
        def training_step(self, batch, batch_idx):
            x = batch[0][:, 0].repeat(1, 2)
            with torch.autocast("cpu", torch.bfloat16):
                displaced = self.head(x)
                with self.frank_wolfe.at_anchor():
                    at_anchor = self.head(x)
            with self.frank_wolfe.at_anchor(), torch.autocast("cpu", torch.bfloat16):
                pairs.append((at_anchor, self.head(x), displaced))
            return displaced.float().square().mean()

    make_trainer().fit(Both(InnerLoop(ball=L2Ball(radius=0.2), steps=3, batches="same")), loader)
    assert all(torch.equal(found, expected) for found, expected, _ in pairs)
    moved = [not torch.equal(found, displaced) for found, _, displaced in pairs]
    assert moved == [False, True, True] * 7


@pytest.mark.parametrize("batches", ["successive", "same", "split"])
def test_callbacks_get_the_dict_of_the_first_evaluation(batches, loader, make_trainer):
    class Dicts(Recurrent):
        evaluations = 0

        def training_step(self, batch, batch_idx):
            self.evaluations += 1
            loss = super().training_step(batch, batch_idx)
            return {"loss": loss, "evaluation": self.evaluations, "name": "first"}

    class Watch(L.Callback):
        outputs = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.outputs.append(outputs)

    watch, steps = Watch(), 2
    make_trainer(callbacks=[watch]).fit(Dicts(InnerLoop(steps=steps, batches=batches)), loader)
    stride = 1 if batches == "successive" else steps
    assert [o["evaluation"] for o in watch.outputs] == [1 + stride * i for i in range(7)]
    assert {o["name"] for o in watch.outputs} == {"first"}
    assert not any(o["loss"].requires_grad for o in watch.outputs)


@pytest.mark.parametrize("batches", ["same", "split"])
def test_none_at_some_evaluations_of_a_batch_skips_these(batches, loader, make_trainer):
    class Picky(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return None if len(self.seen) % 2 else loss

    module, trainer = Picky(InnerLoop(steps=4, batches=batches)), make_trainer()
    trainer.fit(module, loader)
    assert [record.steps for record in module.records] == [2] * 7
    assert trainer.global_step == 7


def test_a_step_that_always_returns_none_takes_no_outer_step(loader, make_trainer):
    class Never(Recurrent):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)

    module, trainer = Never(), make_trainer()
    before = module.weights()
    trainer.fit(module, loader)
    assert trainer.global_step == 0
    assert torch.equal(module.weights(), before)


# Lightning's advice to whoever takes dataloader_iter.
draws_itself = pytest.mark.filterwarnings(
    "ignore:You are using the `dataloader_iter` step flavor",
    "ignore:Found `dataloader_iter` argument in the `training_step`",
)


class Drawing(Recurrent):
    def training_step(self, dataloader_iter):
        batch, _, _ = next(dataloader_iter)
        return loss_of(self, batch)


class Stream(IterableDataset):
    """The samples of a loader, without a length."""

    def __iter__(self):
        return iter(make_loader().dataset)


@draws_itself
@pytest.mark.parametrize(
    "source", [make_loader, lambda: DataLoader(Stream(), batch_size=4)], ids=["sized", "stream"]
)
def test_a_step_that_draws_its_batches_trains_alike(source, loader, make_trainer):
    module, usual, trainer = Drawing(), Recurrent(), make_trainer(max_epochs=2)
    trainer.fit(module, source())
    make_trainer(max_epochs=2).fit(usual, loader)
    assert [(r.steps, r.batches) for r in module.records] == [(3, 3), (3, 3), (1, 1)] * 2
    assert trainer.global_step == 6
    assert torch.equal(module.weights(), usual.weights())


@draws_itself
@pytest.mark.parametrize("batches", ["same", "split"])
def test_a_step_that_draws_its_batches_cannot_see_one_twice(batches, loader, make_trainer):
    drawn = []

    class Noting(Drawing):
        def on_train_start(self):
            drawn.append("started")

    with pytest.raises(
        ValueError,
        match=r'`batches` must be "successive" for a training_step that takes dataloader_iter, got '
        rf"'{batches}': it draws its batch itself. Pass that, or take the batch instead.",
    ):
        make_trainer().fit(Noting(InnerLoop(batches=batches)), loader)
    assert drawn == []


@pytest.mark.parametrize("mode", ["max_size_cycle", "min_size"])
@pytest.mark.parametrize(
    ("batches", "windows"),
    [("successive", {"max_size_cycle": [3, 3, 1], "min_size": [3]}), ("same", 3), ("split", 3)],
)
def test_combined_loaders_feed_every_kind_of_window(mode, batches, windows, make_trainer):
    class Pair(Recurrent):
        def training_step(self, batch, batch_idx):
            return loss_of(self, batch["a"]) + loss_of(self, batch["b"])

    count = 7 if mode == "max_size_cycle" else 3
    expected = windows[mode] if isinstance(windows, dict) else [windows] * count
    module = Pair(InnerLoop(steps=3, batches=batches))
    loaders = {"a": make_loader(28), "b": make_loader(12)}
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, CombinedLoader(loaders, mode))
    assert [record.steps for record in module.records] == expected * 2
    assert trainer.global_step == len(expected) * 2
    lengths = {"split": [2, 2, 1, 1, 1, 1], "same": [4] * 6, "successive": [4, 4]}[batches]
    assert [length for length, _ in module.seen[: len(lengths)]] == lengths


def test_a_combined_loaders_missing_batch_stays_missing_in_every_chunk(make_trainer):
    kinds = []

    class Optional(Recurrent):
        def training_step(self, batch, batch_idx):
            kinds.append(batch["b"] is None)
            return loss_of(self, batch["a"])

    loaders = CombinedLoader({"a": make_loader(28), "b": make_loader(12)}, "max_size")
    make_trainer().fit(Optional(InnerLoop(steps=2, batches="split")), loaders)
    assert kinds == [False] * 6 + [True] * 8


@pytest.mark.parametrize(
    ("backward", "found"),
    [
        (lambda module, loss: loss.backward(), "gradients in p.grad after it, as backward"),
        (lambda module, loss: module.manual_backward(loss), "a call of manual_backward in it"),
    ],
    ids=["raw", "manual_backward"],
)
@pytest.mark.parametrize("batches", ["successive", "same"])
def test_a_backward_pass_of_the_users_own_is_refused(
    backward, found, batches, loader, make_trainer
):
    class Truncated(Recurrent):
        def training_step(self, batch, batch_idx):
            x, y = batch
            for part in x.split(2, dim=1):
                loss = nn.functional.mse_loss(self(part), y)
                if len(self.seen) >= 2:
                    backward(self, loss)
            self.seen.append((len(x), self.weights()))
            return nn.functional.mse_loss(self(x), y)

    module = Truncated(InnerLoop(steps=4, batches=batches))
    before = module.weights()
    with pytest.raises(
        RuntimeError,
        match=rf"`training_step` must leave the backward pass to FrankWolfeMixin, got {found}.*"
        r'Return the loss instead.*pass InnerLoop\(batches="split"\) and override split_batch',
    ):
        make_trainer().fit(module, loader)
    assert len(module.seen) in (2, 3)
    assert torch.equal(module.weights(), before)


def test_gradients_taken_by_autograd_are_the_users_business(loader, make_trainer):
    class Penalized(Recurrent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            gradients = torch.autograd.grad(loss, list(self.parameters()), create_graph=True)
            return loss + 0.1 * sum(gradient.square().sum() for gradient in gradients)

    module = Penalized()
    make_trainer().fit(module, loader)
    assert [record.steps for record in module.records] == [3, 3, 1]


class Sequences(Recurrent):
    """Truncated back-propagation the supported way: chunks of time that hand the state on."""

    def split_batch(self, batch, chunks):
        self.state = None
        self.entered = []
        return list(zip(*(tensor.chunk(chunks, dim=1) for tensor in batch), strict=True))

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.entered.append(self.state)
        output, state = self.rnn(x, self.state)
        self.state = state.detach()
        return nn.functional.mse_loss(self.head(output), y)


def test_truncated_back_propagation_by_chunks_of_time(make_trainer):
    x = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(3))
    batch, chunks, radius = (x, x.cumsum(1)[..., :1]), 3, 0.05
    loop = InnerLoop(
        ball=L2Ball(radius=radius, scope="global"),
        steps=chunks,
        batches="split",
        direction="displacement",
    )
    module = Sequences(loop, lr=1.0)

    # The same by hand: a window of chunks, the state carried on and cut off the graph.
    twin = Sequences(loop)
    anchor = twin.weights()
    displacement, state = torch.zeros_like(anchor), None
    for k in range(chunks):
        nn.utils.vector_to_parameters(anchor + displacement, twin.parameters())
        output, state = twin.rnn(x[:, 2 * k : 2 * k + 2], state)
        loss = nn.functional.mse_loss(twin.head(output), batch[1][:, 2 * k : 2 * k + 2])
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, twin.parameters())])
        state = state.detach()
        displacement = k / (k + 1) * displacement - radius * gradient / gradient.norm() / (k + 1)

    make_trainer().fit(module, DataLoader([batch], batch_size=None))
    torch.testing.assert_close(module.weights(), anchor + displacement)
    assert module.entered[0] is None
    assert [entered.abs().sum() > 0 for entered in module.entered[1:]] == [True, True]
    torch.testing.assert_close(module.state, state)
    assert [(r.steps, r.batches, round(r.gradient_evaluations, 6)) for r in module.records] == [
        (chunks, 1, 1.0)
    ]


def test_a_frank_wolfe_module_inside_a_plain_one_is_trained_by_it(loader, make_trainer):
    class Outer(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner = Recurrent()

        def training_step(self, batch, batch_idx):
            return self.inner.training_step(batch, batch_idx)

        def configure_optimizers(self):
            return self.inner.configure_optimizers()

    class Plain(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner = Recurrent()

        def training_step(self, batch, batch_idx):
            return nn.functional.mse_loss(self.inner(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.inner.lr)

    module, plain, trainer = Outer(), Plain(), make_trainer()
    trainer.fit(module, loader)
    make_trainer().fit(plain, loader)
    assert trainer.global_step == 7
    assert torch.equal(module.inner.weights(), plain.inner.weights())
    assert module.inner.records == []


class Saved(FrankWolfeMixin, L.LightningModule):
    def __init__(self, width=3, settings=None, **extra):
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, width)

    def configure_frank_wolfe(self):
        return InnerLoop(steps=3)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SavedDict(Saved):
    def __init__(self, width=3, settings=None, **extra):
        L.LightningModule.__init__(self)
        self.save_hyperparameters({"width": width, "settings": settings, **extra})
        self.layer = nn.Linear(2, width)


class SavedWithPositional(FrankWolfeMixin, L.LightningModule):
    """Takes no keyword but its own, as a mixin's ``__init__`` must not hide."""

    def __init__(self, width):
        super().__init__()
        self.save_hyperparameters({"width": width})
        self.layer = nn.Linear(2, width)

    training_step = Saved.training_step


@pytest.mark.parametrize(
    ("cls", "hyperparameters"),
    [
        (Saved, {"width": 5, "settings": {"a": [1, 2]}, "more": 1.5}),
        (SavedDict, {"width": 5, "settings": {"a": [1, 2]}, "more": 1.5}),
        (SavedWithPositional, {"width": 5}),
    ],
)
@pytest.mark.parametrize("when", ["before", "mid-window", "after"])
def test_hyperparameters_and_weights_load_from_a_checkpoint(
    cls, hyperparameters, when, loader, make_trainer, tmp_path
):
    path = tmp_path / "saved.ckpt"
    expected = []

    class Save(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 4:
                trainer.save_checkpoint(path)
                expected.append(module.layer.weight.detach().clone())

    module = cls(**hyperparameters)
    trainer = make_trainer(callbacks=[Save()] if when == "mid-window" else [])
    if when == "before":
        trainer.strategy.connect(module)
    else:
        trainer.fit(module, loader)
    if when != "mid-window":
        trainer.save_checkpoint(path)
        expected.append(module.layer.weight.detach().clone())
    loaded = cls.load_from_checkpoint(path)
    assert dict(loaded.hparams) == hyperparameters
    assert torch.equal(loaded.layer.weight, expected[0])
    make_trainer().fit(loaded, loader)
    assert not torch.equal(loaded.layer.weight, expected[0])


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("when", ["before", "mid-window", "after"])
def test_a_copy_holds_the_anchor_trains_alone_and_leaves_the_original(
    clone, when, loader, make_trainer
):
    copies = []

    class Copy(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if when == "mid-window" and batch_idx == 4:
                copies.append((clone(module), module.weights()))

    undisturbed, module = Recurrent(), Recurrent()
    make_trainer().fit(undisturbed, loader)
    if when == "before":
        copies.append((clone(module), module.weights()))
    make_trainer(callbacks=[Copy()]).fit(module, loader)
    if when == "after":
        copies.append((clone(module), module.weights()))
    assert torch.equal(module.weights(), undisturbed.weights())
    (twin, weights), end = copies[0], module.weights()
    assert torch.equal(twin.weights(), weights)
    twin.records.clear()
    make_trainer().fit(twin, loader)
    assert [(record.restart, record.steps) for record in twin.records] == [(0, 3), (1, 3), (2, 1)]
    assert not torch.equal(twin.weights(), weights)
    assert torch.equal(module.weights(), end)
