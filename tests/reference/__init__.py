"""The algorithm of design.md, section 3, once more: NumPy, float64, written from the text alone.

It shares no line with the package, so that agreement to the last digits means something:

- `elman`: a recurrent network and its gradient, derived by hand;
- `oracles`: the atoms of the l_p balls over one flat vector;
- `blocks`: which parameters one ball spans;
- `step_sizes`: the weight of the new atom;
- `windows`: which data each inner step sees, and where a window ends;
- `outer`: SGD, Adam and AdamW;
- `training`: the loop that puts them together;
- `preset`: `InnerLoop.spectral()`, its balls and radii, from the pages of `docs` alone.

`lightning_net` is the other side of the comparison: the same network under a real Trainer.
"""
