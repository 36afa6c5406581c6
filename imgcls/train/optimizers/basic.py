"""Optimizers of optax, with weight decay for selected parameters.

Except in adamw, lamb and lars, the decay is added to the gradient before the momentum (L2
regularization).
"""

import functools
from typing import TypedDict

import jax
import optax
from ml_collections import ConfigDict

from imgcls.train.optim import Chain, register_optimizer


@register_optimizer("sgd")
def sgd(c: ConfigDict, schedule: optax.Schedule, params, mask) -> Chain:
    """Stochastic gradient descent with (Nesterov) momentum."""
    decay = optax.add_decayed_weights(c.weight_decay, mask)
    return [decay, optax.sgd(schedule, c.momentum or None, c.nesterov)]


@register_optimizer("rmsprop")
def rmsprop(c: ConfigDict, schedule: optax.Schedule, params, mask) -> Chain:
    """RMSProp as in TensorFlow.

    The mean square starts at 1, eps is under the root, and the momentum accumulates steps that are
    already scaled by the learning rate.
    """
    decay = optax.add_decayed_weights(c.weight_decay, mask)
    scale = {"decay": c.decay, "eps": c.eps, "initial_scale": 1.0}
    momentum = {"momentum": c.momentum or None, "nesterov": c.nesterov}
    return [decay, optax.rmsprop(schedule, **scale, **momentum)]


@register_optimizer("adam")
def adam(c: ConfigDict, schedule: optax.Schedule, params, mask) -> Chain:
    """Adam (Kingma & Ba 2014, arXiv:1412.6980)."""
    decay = optax.add_decayed_weights(c.weight_decay, mask)
    return [decay, optax.adam(schedule, **_moments(c))]


@register_optimizer("adamw")
def adamw(c: ConfigDict, schedule: optax.Schedule, params, mask) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017, arXiv:1711.05101)."""
    return optax.adamw(schedule, **_moments(c), weight_decay=c.weight_decay, mask=mask)


@register_optimizer("lamb")
def lamb(c: ConfigDict, schedule: optax.Schedule, params, mask) -> optax.GradientTransformation:
    """LAMB (You et al. 2019, arXiv:1904.00962).

    As in apex and timm, parameters without weight decay have no trust ratio, unless
    `optim.always_adapt` is set. These two also clip the gradient's norm by default:
    `optim.clip_norm=1.0`.
    """
    # The chain of `optax.lamb`, whose trust ratios have no mask.
    return optax.chain(
        optax.scale_by_adam(**_moments(c)),
        optax.add_decayed_weights(c.weight_decay, mask),
        optax.scale_by_trust_ratio() if c.always_adapt else _trust_where_decayed(c, mask),
        optax.scale_by_learning_rate(schedule),
    )


def _trust_where_decayed(c: ConfigDict, mask) -> optax.GradientTransformation:
    """`optax.scale_by_trust_ratio`, with the same state, for parameters with weight decay."""
    trust = optax.scale_by_trust_ratio()

    def update(updates, state, params=None):
        adapted, state = trust.update(updates, state, params)
        choose = functools.partial(jax.tree.map, lambda decays, new, old: new if decays else old)
        return choose(mask, adapted, updates) if c.weight_decay else updates, state

    return optax.GradientTransformation(trust.init, update)


@register_optimizer("lars")
def lars(c: ConfigDict, schedule: optax.Schedule, params, mask) -> optax.GradientTransformation:
    """LARS (You et al. 2017, arXiv:1708.03888).

    Parameters without weight decay have no trust ratio either, as in SimCLR.
    """
    return optax.lars(
        schedule,
        c.weight_decay,
        weight_decay_mask=mask,
        trust_ratio_mask=mask,
        trust_coefficient=c.trust_coefficient,
        momentum=c.momentum,
        nesterov=c.nesterov,
    )


class _Moments(TypedDict):
    b1: float
    b2: float
    eps: float


def _moments(c: ConfigDict) -> _Moments:
    return {"b1": c.b1, "b2": c.b2, "eps": c.eps}
