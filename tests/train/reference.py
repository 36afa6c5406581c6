"""Writes `recorded_steps.json`: `python -m tests.train.reference`.

Needs torch for the CPU and timm: requirements-parity.txt.
"""

import json
import pathlib

import numpy as np

RECORDED = pathlib.Path(__file__).with_name("recorded_steps.json")
NUM_STEPS = 20
# Values of arrays after each step, `[step][name] -> array`.
Steps = list[dict[str, np.ndarray]]

CLIP_NORM = 0.5
# As in configs/vit_b16.py, but with timm's eps.
LAMB = {"rate": 3e-3, "weight_decay": 0.05, "eps": 1e-6, "clip_norm": 1.0}


def lamb_params() -> dict[str, np.ndarray]:
    """A kernel and the two arrays without weight decay of a block: LayerScale and a bias."""
    rng = np.random.default_rng(0)
    arrays = {"kernel": rng.normal(0, 0.5, (3, 2)), "gamma": np.full(2, 1e-4), "bias": np.zeros(2)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def lamb_grads(step: int) -> dict[str, np.ndarray]:
    """Gradients with norms from below to above the bound."""
    rng = np.random.default_rng(100 + step)
    scale = 0.1 * (1 + step)
    return {
        name: (scale * rng.normal(1, 1, array.shape)).astype(np.float32)
        for name, array in lamb_params().items()
    }


def lamb(always_adapt: bool) -> Steps:
    """timm's LAMB, which clips by the global norm itself."""
    import torch
    from timm.optim import Lamb

    params = {name: torch.tensor(array) for name, array in lamb_params().items()}
    rest = [params["gamma"], params["bias"]]
    optimizer = Lamb(
        [{"params": [params["kernel"]]}, {"params": rest, "weight_decay": 0.0}],
        lr=LAMB["rate"],
        eps=LAMB["eps"],
        weight_decay=LAMB["weight_decay"],
        max_grad_norm=LAMB["clip_norm"],
        always_adapt=always_adapt,
    )
    steps = []
    for step in range(NUM_STEPS):
        for name, grad in lamb_grads(step).items():
            params[name].grad = torch.tensor(grad)
        optimizer.step()
        steps.append({name: array.numpy().copy() for name, array in params.items()})
    return steps


def norm_input(step: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, targets) of a step, `[6, 2, 3]`; two channels have large means and small deviations."""
    rng = np.random.default_rng(200 + step)
    x = rng.normal((100, 10, 1), (0.01, 0.01, 1), (6, 2, 3))
    return x.astype(np.float32), rng.normal(0.5, 1, (6, 2, 3)).astype(np.float32)


def batch_norm() -> Steps:
    """torch's BatchNorm, trained by SGD on the squared distance to targets.

    In float64: in float32 it multiplies by 1 / deviation before it subtracts the mean, and loses
    three digits here.
    """
    import torch

    layer = torch.nn.BatchNorm1d(3).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    steps = []
    for step in range(NUM_STEPS):
        # torch has the channels second.
        x, targets = (torch.tensor(a.transpose(0, 2, 1)).double() for a in norm_input(step))
        x.requires_grad_()
        optimizer.zero_grad()
        (layer(x) - targets).square().mean().backward()
        optimizer.step()
        values = {"scale": layer.weight, "bias": layer.bias, "mean": layer.running_mean}
        # torch averages unbiased variances, of 12 values here.
        old = 0.9 ** (step + 1)
        values["var"] = old + (layer.running_var - old) * 11 / 12
        values["gradient of x"] = x.grad.permute(0, 2, 1)
        steps.append({name: value.detach().numpy().copy() for name, value in values.items()})
    return steps


def clipped_images(step: int) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 `[8, 2, 2, 1]`, labels `[8]` of 3 classes) of a step."""
    rng = np.random.default_rng(300 + step)
    return rng.integers(0, 256, (8, 2, 2, 1), np.uint8), rng.integers(0, 3, 8).astype(np.int32)


def clipped_params() -> dict[str, dict[str, np.ndarray]]:
    """A frozen layer, whose gradient is far larger than the head's, and a head."""
    rng = np.random.default_rng(1)
    shapes = {"hidden": ((4, 5), (5,)), "head": ((5, 3), (3,))}
    scales = {"hidden": 0.1, "head": 5.0}
    return {
        layer: {
            key: (scales[layer] * rng.normal(size=shape)).astype(np.float32)
            for key, shape in zip(("kernel", "bias"), shapes[layer], strict=True)
        }
        for layer in shapes
    }


def clipped() -> Steps:
    """torch's clip_grad_norm_ over the parameters of a head on a frozen layer."""
    import torch

    params = {
        layer: {key: torch.tensor(array) for key, array in arrays.items()}
        for layer, arrays in clipped_params().items()
    }
    hidden, head = params["hidden"], params["head"]
    for array in head.values():
        array.requires_grad_()
    optimizer = torch.optim.SGD(head.values(), lr=0.2, momentum=0.9)
    steps = []
    for step in range(NUM_STEPS):
        images, labels = clipped_images(step)
        x = (torch.tensor(images).reshape(8, 4).float() / 255 - 0.5) / 0.25
        logits = torch.relu(x @ hidden["kernel"] + hidden["bias"]) @ head["kernel"] + head["bias"]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long()).backward()
        norm = torch.nn.utils.clip_grad_norm_(head.values(), CLIP_NORM)
        optimizer.step()
        values = {**head, "norm": norm}
        steps.append({name: value.detach().numpy().copy() for name, value in values.items()})
    return steps


CASES = {
    "clipped head": clipped,
    "lamb": lambda: lamb(False),
    "lamb, always adapt": lambda: lamb(True),
    "batch_norm": batch_norm,
}


def to_json(steps: Steps) -> str:
    """Each step as a line, with 7 digits."""
    rounded = [
        {name: [float(f"{x:.7g}") for x in array.ravel()] for name, array in arrays.items()}
        for arrays in steps
    ]
    return "[\n" + ",\n".join(map(json.dumps, rounded)) + "\n]"


if __name__ == "__main__":
    cases = [f'"{name}": {to_json(run())}' for name, run in CASES.items()]
    RECORDED.write_text("{\n" + ",\n".join(cases) + "\n}\n")
