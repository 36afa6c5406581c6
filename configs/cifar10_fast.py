"""CIFAR-10 against the clock: the recipes of the speed records, for one device.

    python -m imgcls.main --config=configs/cifar10_fast.py:data=/data/cifar10.zip --workdir=...

Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498, and its code,
KellerJordan/cifar10-airbench, which descends from tysam-code/hlb-CIFAR10 and
davidcpage/cifar10-fast. Targets on the 10,000 test images, with the views of `tta`:

- variant=94: 94.01 % after 8 epochs (airbench94_muon.py);
- variant=96: 96.01 % after 31 epochs (airbench96.py, the version of June 2024).

Theirs sum the loss over the batch; the rates here are for its mean. What differs: BatchNorm's
biases do not decay, an epoch is 50,000 examples and not whole batches alone; in 94 the bias of the
whitening layer falls with the other rates and not faster; in 96 the warm-up starts near 0 and not
at 0.2 of the peak, and batch statistics take no part in the lookahead.
"""

from ml_collections import ConfigDict


def get_config(data: str = "cifar10", variant: int = 94) -> ConfigDict:
    if variant not in (94, 96):
        raise ValueError(f"variant={variant}: write 94 or 96")
    c = ConfigDict()
    c.objective = ConfigDict(dict(name="supervised", loss="softmax", label_smoothing=0.2))
    c.model = ConfigDict(dict(name=f"airbench{variant}", dtype="bfloat16"))

    c.data = ConfigDict()
    c.data.source = f"folder:{data}"
    c.data.device_resident = True
    c.data.train_transform = c.data.eval_transform = "resize((32, 32))"
    c.data.mean = (0.4914, 0.4822, 0.4465)
    c.data.std = (0.2470, 0.2435, 0.2616)

    c.optim = ConfigDict()
    c.schedule = ConfigDict(dict(name="linear"))
    c.optim.nesterov = True
    c.optim.momentum = 0.85
    if variant == 94:
        c.total = "8 epochs"
        c.batch_size = 2000
        c.data.batch_transform = "alternating_flip|random_translate(2)"
        c.optim.name = "muon"
        c.optim.learning_rate = 0.24
        muon = dict(momentum=0.6, steps=3, fixed_norm=True, exclude="head|whiten", rest="sgd")
        c.optim.muon = ConfigDict(muon)
        # 0.053 and 0.67 for the sum over 2,000 examples.
        bias, head = 0.053 * 2000, 0.67 * 2000
        c.optim.weight_decay = 2e-6 * 2000 / head
        c.optim.multipliers = (
            ("whiten/kernel|scale", 0.0),
            ("whiten/bias", bias / 0.24, "3 epochs"),
            ("bias", bias / 0.24),
            ("head", head / 0.24),
        )
    else:
        c.total = "31 epochs"
        c.batch_size = 1024
        c.data.batch_transform = "alternating_flip|random_translate(4)|cutout(12)"
        # Under a constant gradient Nesterov's steps grow by 1 + 1 / (1 - momentum).
        growth = 1 + 1 / (1 - c.optim.momentum)
        c.optim.learning_rate = 9.0 / growth
        c.optim.weight_decay = 0.012 / 9.0
        c.optim.multipliers = (
            ("whiten/kernel|scale", 0.0),
            ("whiten/bias", 1.0, "3 epochs"),
            ("bias", 64.0),
        )
        c.optim.lookahead = ConfigDict(dict(every=5, decay=0.95**5, power=3.0))
        c.schedule.warmup = "10 percent"

    c.guard = ConfigDict(dict(skip=5, rollback=True))

    c.evaluators = ConfigDict()
    c.evaluators.test = ConfigDict(dict(split="test", tta="flip+translate", every="4 epochs"))
    c.checkpoint = ConfigDict()
    c.checkpoint.every = "4 epochs"
    c.checkpoint.keep_best = "test/accuracy"
    return c
