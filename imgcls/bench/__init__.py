"""Measures how fast a config runs, with the trainer's own parts: `python -m imgcls.bench`.

`inputs` measures the loaders, `steps` the compiled training step and `startup` the time to the
first step. `peaks` has the throughput of chips. `collectives` counts the communication of a
compiled step and estimates how it scales, for `bench/scale.py`.
"""
