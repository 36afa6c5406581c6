"""Writes `recorded_logits.json`: `python -m tests.models.weights.reference`.

Needs torch for the CPU, timm and others: requirements-parity.txt.
"""

import json
import pathlib

import numpy as np

from tests.models.weights.cases import CASES, Case, random_images, weights

RECORDED = pathlib.Path(__file__).with_name("recorded_logits.json")


def state_dict(model) -> dict[str, np.ndarray]:
    """Random weights for a torch model, by its names."""
    return {
        name: np.zeros((), np.int64)
        if name.endswith("num_batches_tracked")
        else weights(name, tuple(array.shape))
        for name, array in model.state_dict().items()
    }


def logits(model, arrays: dict[str, np.ndarray], images: np.ndarray, train: bool) -> list:
    """Logits of a torch model with these weights: `[logits, auxiliary logits...]`.

    In training mode without dropout, since its randomness has no counterpart.
    """
    import torch

    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
    if hasattr(model, "set_input_size"):
        model.set_input_size(images.shape[1:3])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train(train)
    with torch.no_grad():
        outputs = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    if not isinstance(outputs, tuple):
        outputs = (outputs,)
    if not train:
        # timm's Inception V3 runs its auxiliary classifier in evaluation too.
        outputs = outputs[:1]
    # GoogLeNet returns its second auxiliary classifier before the first.
    outputs = {3: lambda a, c, b: (a, b, c)}.get(len(outputs), lambda *o: o)(*outputs)
    return [output.numpy() for output in outputs]


def expected(case: Case) -> dict[str, list]:
    """Logits of a case in both modes, as lists."""
    model = case.torch()
    arrays, images = state_dict(model), random_images(case.size)
    modes = {"eval": False, "train": True} if case.train else {"eval": False}
    return {
        mode: [
            [[float(f"{x:.7g}") for x in row] for row in output]
            for output in logits(model, arrays, images, train)
        ]
        for mode, train in modes.items()
    }


if __name__ == "__main__":
    lines = [f'"{name}": {json.dumps(expected(case))}' for name, case in CASES.items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
