"""WeightAveraging and EMAWeightAveraging average the anchors, a restart for a step."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
from torch import nn
from torch.utils.data import DataLoader

from tests.manual.callback_nets import ONE_STEP, THREE_STEPS, Anchors, ByFrankWolfe, Plain
from tests.mixin.conftest import make_loader


@pytest.mark.parametrize("inner_loop", [ONE_STEP, THREE_STEPS])
def test_averaging_is_updated_once_a_restart(inner_loop, make_trainer):
    class Counts(WeightAveraging):
        updates: list[int] = []

        def should_update(self, step_idx=None, epoch_idx=None):
            if step_idx is not None:
                self.updates.append(step_idx)
            return super().should_update(step_idx, epoch_idx)

    module, anchors, averaging = ByFrankWolfe(inner_loop), Anchors(), Counts()
    averaging.updates = []
    trainer = make_trainer(callbacks=[anchors, averaging], max_epochs=2)
    trainer.fit(module)
    steps = trainer.global_step
    assert averaging.updates == list(range(steps))
    average = torch.stack([anchors.after_restart(step) for step in range(1, steps + 1)]).mean(0)
    torch.testing.assert_close(module.weights(), average)


def averages(anchors, steps, decay):
    """The exponential average after each restart, by hand; the first anchor starts it."""
    found = [anchors.after_restart(1)]
    for step in range(2, steps + 1):
        found.append(decay * found[-1] + (1 - decay) * anchors.after_restart(step))
    return found


def test_validation_sees_the_exponential_average_and_the_window_goes_on(make_trainer):
    module, anchors = ByFrankWolfe(), Anchors()
    averaging = EMAWeightAveraging(decay=0.8)
    trainer = make_trainer(
        callbacks=[anchors, averaging], max_epochs=2, val_check_interval=2, num_sanity_val_steps=0
    )
    trainer.fit(module)
    right = averages(anchors, 6, 0.8)
    assert [step for step, _ in module.validated] == [0, 1, 2, 3, 4, 5]
    for step, weights in module.validated[1:]:
        torch.testing.assert_close(weights, right[step - 1])
    torch.testing.assert_close(module.weights(), right[-1])

    unseen, others = ByFrankWolfe(), Anchors()
    make_trainer(callbacks=[others], max_epochs=2, limit_val_batches=0).fit(unseen)
    for step in range(1, 7):
        assert torch.equal(anchors.after_restart(step), others.after_restart(step))


def test_with_one_step_the_exponential_average_is_automatic_optimizations(make_trainer):
    found = []
    for module in (
        Plain(batch_norm=True, lr=0.02),
        ByFrankWolfe(ONE_STEP, batch_norm=True, lr=0.02),
    ):
        averaging = EMAWeightAveraging(decay=0.8, update_every_n_steps=2, update_starting_at_step=3)
        make_trainer(callbacks=[averaging], max_epochs=2, val_check_interval=3).fit(module)
        found.append(module)
    plain, mine = found
    torch.testing.assert_close(mine.weights(), plain.weights(), rtol=1e-3, atol=1e-5)
    for (_, weights), (_, right) in zip(mine.validated, plain.validated, strict=True):
        torch.testing.assert_close(weights, right, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        mine.norm.running_mean, plain.norm.running_mean, rtol=1e-3, atol=1e-5
    )


def test_a_checkpoint_in_mid_window_holds_average_and_anchor_and_resumes(make_trainer, tmp_path):
    class Saves(Anchors):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, pl_module)
            if trainer.current_epoch == 1 and batch_idx == 1:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    settings = {"limit_val_batches": 0, "max_epochs": 2}
    module, anchors = ByFrankWolfe(), Saves()
    make_trainer(callbacks=[EMAWeightAveraging(decay=0.8), anchors], **settings).fit(module)
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    average, anchor = (
        nn.utils.parameters_to_vector(checkpoint[key].values())
        for key in ("state_dict", "current_model_state")
    )
    torch.testing.assert_close(average, averages(anchors, 3, 0.8)[-1])
    assert torch.equal(anchor, anchors.after_restart(3))
    assert checkpoint["frank_wolfe"]["window"]["attempts"] == 2

    class Rest(ByFrankWolfe):
        def train_dataloader(self):
            # Lightning counts on from the third batch, and starts this anew.
            batches = list(make_loader())
            return DataLoader(batches[2:] + batches[:2], batch_size=None)

    resumed, averaging = Rest(), EMAWeightAveraging(decay=0.8)
    with pytest.warns(UserWarning, match="your dataloader is not resumable"):
        make_trainer(callbacks=[averaging], **settings).fit(
            resumed, ckpt_path=tmp_path / "mid.ckpt"
        )
    assert torch.equal(resumed.weights(), module.weights())
