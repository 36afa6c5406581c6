"""The protocols of objectives."""

import types

from imgcls.objectives.objective import Classifies, Reconstructs


def test_protocols_require_every_method():
    partial = types.SimpleNamespace(task="softmax", logits=abs)
    assert not isinstance(partial, Classifies)
    partial.scores = partial.example_loss = abs
    assert isinstance(partial, Classifies)
    assert not isinstance(partial, Reconstructs)
