"""
Balls, atoms and a window
=========================

What the method does, in two dimensions where it can be drawn. :doc:`/method` has the formulas.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Polygon

from lightning_fw import InnerLoop, L1Ball, L2Ball, LinfBall, LpBall, OpenLoop
from lightning_fw.window import Window

# %%
# The ball's answer to a gradient is its *atom*, the point of the ball that goes furthest against
# it. Only the l2 ball answers with the negative gradient itself; corners attract.
gradients = [torch.tensor(g) for g in ([-1.0, -0.2], [-0.5, -1.0], [1.0, -0.3])]
angles = torch.linspace(0, 2 * torch.pi, 400)
circle = torch.stack([angles.cos(), angles.sin()], 1)

figure, panels = plt.subplots(1, 4, figsize=(11, 3.2), layout="constrained")
balls = {"l1": L1Ball(radius=1), "l2": L2Ball(radius=1)}
balls |= {"l3": LpBall(3.0, radius=1), "l∞": LinfBall(radius=1)}
for panel, (name, ball) in zip(panels, balls.items(), strict=True):
    rim = [(point / ball.norm([point])).tolist() for point in circle]
    panel.add_patch(Polygon(rim, facecolor="#56B4E9", alpha=0.25))
    for gradient, color in zip(gradients, ("#D55E00", "#009E73", "#0072B2"), strict=True):
        (atom,) = ball.lmo([gradient])
        assert torch.isclose(ball.norm([atom]), torch.tensor(1.0))
        panel.annotate("", -gradient, (0, 0), arrowprops={"arrowstyle": "->", "color": color})
        panel.plot(*atom, "o", color=color)
    panel.set(title=name, xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
    panel.axis("off")
figure.suptitle("Arrows: negative gradients. Dots: the ball's atoms.", fontsize=10)

# %%
# A window around the anchor: each gradient is taken where the displacement stands, and the
# displacement is an average of the atoms so far. It never leaves the ball.
curvature = torch.tensor([1.0, 8.0])
weight = torch.nn.Parameter(torch.tensor([-1.6, 0.55]))
ball = L2Ball(radius=0.8)
window = Window(InnerLoop(ball=ball, steps=6, step_size=OpenLoop()), [weight])
anchor, path = weight.detach().clone(), [weight.detach().clone()]
while not window.is_full:
    with window.displaced():
        path.append(weight.detach().clone())
        (curvature * weight.square()).sum().backward()
    window.step()
window.close()
assert weight.grad is not None
end = anchor - ball.radius * weight.grad
assert torch.equal(weight.detach(), anchor), "the weights stand at the anchor again"

figure, panel = plt.subplots(figsize=(6, 4), layout="constrained")
x, y = torch.meshgrid(torch.linspace(-2.6, 0.6, 200), torch.linspace(-0.8, 1.5, 200), indexing="xy")
panel.contour(x, y, x.square() + 8 * y.square(), levels=15, colors="0.8", linewidths=0.8)
panel.add_patch(plt.Circle(anchor, ball.radius, facecolor="#56B4E9", alpha=0.25))
points = torch.stack([*path[1:], end])
panel.plot(*points.T, "o-", color="#D55E00", markersize=4, label="ω + d₀, …, ω + d₆")
panel.plot(*anchor, "o", color="black", label="anchor ω")
panel.plot(*end, "*", color="black", markersize=12, label="ω + d₆: the direction leads here")
panel.plot(0, 0, "x", color="black", label="minimum of the loss")
panel.set_aspect("equal")
panel.legend(frameon=False, fontsize=8, loc="lower left")
panel.axis("off")

assert ball.contains([end - anchor])
