"""Logits of every family against recorded logits of the reference projects."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from imgcls.models.create import create_model
from imgcls.models.weights import load as weights_lib
from imgcls.models.weights.arrays import to_theirs
from imgcls.models.weights.tables import layouts
from tests.models.weights.cases import CASES, CLASSES, Case, random_images, weights
from tests.models.weights.reference import RECORDED

EXPECTED = json.loads(RECORDED.read_text())


def our_model(case: Case, size: int):
    """(model without dropout, shapes of its variables for images of that size)."""
    options = dict(case.options)
    if case.model.startswith("inception_v1"):
        options["aux_drop_rate"] = 0.0
    model = create_model(case.model, CLASSES, drop_rate=0.0, **options)
    images = random_images(size, case.frames)
    return model, jax.eval_shape(model.init, jax.random.key(0), images[:1])


def write_state_dict(case: Case, path) -> None:
    """Writes the weights of a case as a file of the other project."""
    model, shapes = our_model(case, case.trained_size or case.size)
    layout = layouts(model, case.project)[0]
    named = {}
    for key, array in jax.tree_util.tree_leaves_with_path(shapes):
        ours = "/".join(part.key for part in key[1:])
        (theirs,) = layout.names(ours, model)
        # Only the shape of theirs is taken.
        shape = to_theirs(ours, np.empty(array.shape, np.bool_), layout).shape
        named[theirs] = weights(theirs, shape)
    save_file(named, path)


def our_logits(case: Case, path, train: bool) -> list[np.ndarray]:
    """`[logits, auxiliary logits...]` of the model with the weights of a file."""
    model, shapes = our_model(case, case.size)
    variables, report = weights_lib.load(f"{case.project}:{path}", model, shapes)
    assert not (report.new or report.left_out)
    assert len(report.adapted) == (case.trained_size is not None)

    @jax.jit
    def apply(variables, x):
        mutable = [*variables, "intermediates"] if train else False
        return model.apply(variables, x, train=train, mutable=mutable)

    outputs = apply(variables, case.images)
    if not train:
        return [outputs]
    logits, state = outputs
    return [logits, *state.get("intermediates", {}).get("aux_logits", ())]


# Not the first of their family.
SLOW = ("regnety_tv", "vgg_timm", "regnetx", "inception_v1", "inception_v2", "mc3")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES],
)
def test_logits(name, tmp_path):
    case = CASES[name]
    bound = 1e-5 if case.model.startswith(("vit", "deit")) else 1e-4
    write_state_dict(case, path := tmp_path / "model.safetensors")
    for mode, expected in EXPECTED[name].items():
        found = our_logits(case, path, train=mode == "train")
        assert len(found) == len(expected)
        for ours, theirs in zip(found, np.array(expected), strict=True):
            error = np.abs(ours - theirs).max() / np.abs(theirs).max()
            assert error < bound, (mode, error)
