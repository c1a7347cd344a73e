"""What the ops cost beside their floor and beside their peers: ``python -m robocache_cupy.bench``.

The peers are what a user would write instead: PyTorch, torch.compile and Triton. Every result is
checked against `numpy.interp` in float64 before it is timed.
"""
