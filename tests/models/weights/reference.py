"""Writes `recorded_logits.json`: `python -m tests.models.weights.reference`, or with the names of
the cases to record anew.

Needs torch for the CPU, timm and others: requirements-parity.txt.
"""

import json
import pathlib
import sys

import numpy as np

from tests.models.weights.cases import CASES, Case, weights

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

    They are computed in float64, and in training mode without dropout, since its randomness has no
    counterpart.
    """
    import torch

    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
    model.double()
    if hasattr(model, "set_input_size"):
        model.set_input_size(images.shape[1:3])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train(train)
    with torch.no_grad():
        outputs = model(torch.from_numpy(np.moveaxis(images, -1, 1).astype(np.float64)))
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
    arrays, images = state_dict(model), case.images
    modes = {"eval": False, "train": True} if case.train else {"eval": False}
    return {
        mode: [
            [[float(f"{x:.7g}") for x in row] for row in output]
            for output in logits(model, arrays, images, train)
        ]
        for mode, train in modes.items()
    }


if __name__ == "__main__":
    known = json.loads(RECORDED.read_text())
    known |= {name: expected(CASES[name]) for name in sys.argv[1:] or CASES}
    lines = [f'"{name}": {json.dumps(known[name])}' for name in CASES]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
