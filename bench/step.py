"""Compares training steps on the CPU, in float32: forward pass, backward pass, optimizer.

    python bench/step.py

All contestants have the same network, batch size and type of optimizer, a fixed batch, and their
framework's default threads. A step of XLA on a CPU allocates gigabytes of memory each time, so all
run with huge pages, as the launchers of `launch/` set them. The peers in JAX also run with "plain
memory", the default settings of glibc, with which they start by themselves.
"""

import os
import pathlib
import subprocess
import types

import rounds

CLASSES = 1000
PLAIN = ", plain memory"
# name -> (batch size, side of the images, contestants)
MODELS = {
    "resnet50": (16, 224, ("imgcls", "flax example", "flax example" + PLAIN, "timm")),
    "vit_s16": (16, 224, ("imgcls", "big_vision", "big_vision" + PLAIN, "timm")),
    "resnet18_cifar": (128, 32, ("imgcls", "timm")),
}
SGD = dict(name="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
ADAMW = dict(name="adamw", learning_rate=1e-3, weight_decay=0.1, clip_norm=1.0)
OURS = {
    "resnet50": (dict(name="resnet50"), SGD),
    "vit_s16": (dict(name="vit_s16", pool="gap", pos_embed="sincos2d"), ADAMW),
    "resnet18_cifar": (dict(name="resnet18", stem="cifar"), SGD),
}


def launcher_memory() -> str:
    """Returns the launchers' GLIBC_TUNABLES for a run on a CPU; empty except on Linux."""
    script = pathlib.Path(__file__).resolve().parents[1] / "launch" / "until_done.sh"
    line = [script, "printenv", "GLIBC_TUNABLES"]
    return subprocess.run(line, capture_output=True, text=True).stdout.strip()


def draw_batch(batch: int, size: int):
    """Returns standardized images, float32 `[B, H, W, 3]`, and labels, int32 `[B]`."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, size, size, 3)).astype(np.float32)
    return images, rng.integers(0, CLASSES, batch, np.int32)


def ours(model: str, batch: int, size: int):
    """Returns the trainer's step, which also normalizes uint8 images."""
    from ours import create_step

    section, optim = OURS[model]
    return create_step(section, batch, size, CLASSES, optim)


def flax_example(model: str, batch: int, size: int):
    """Returns `train_step` of flax's ImageNet example under `pmap`, as its loop calls it."""
    rounds.peer_path("FLAX", "examples", "imagenet")
    import functools

    import jax
    import models
    import train

    config = types.SimpleNamespace(half_precision=False, momentum=0.9)
    network = train.create_model(model_cls=models.ResNet50, half_precision=False)
    schedule = lambda step: 0.1  # noqa: E731
    state = train.create_train_state(jax.random.key(0), config, network, size, schedule)
    step = jax.pmap(
        functools.partial(train.train_step, learning_rate_fn=schedule),
        in_axes=(None, 0),
        out_axes=(None, 0),
        axis_name="batch",
    )
    images, labels = draw_batch(batch, size)
    one = jax.device_put({"image": images[None], "label": labels[None]})
    return repeat(step, state, one)


def big_vision(model: str, batch: int, size: int):
    """Returns a step with big_vision's ViT, optimizer and loss, jitted and donated as there."""
    rounds.peer_path("BIG_VISION")
    import big_vision.optax as bv_optax
    import big_vision.utils as u
    import jax
    import ml_collections
    import optax
    from big_vision.models import vit

    network = vit.Model(CLASSES, variant="S/16", pool_type="gap", posemb="sincos2d")
    images, labels = draw_batch(batch, size)
    one = jax.device_put({"image": images, "labels": jax.nn.one_hot(labels, CLASSES)})
    params = jax.jit(network.init)(jax.random.key(0), one["image"])["params"]
    settings = dict(optax_name="scale_by_adam", lr=1e-3, wd=1e-4, grad_clip_norm=1.0)
    config = ml_collections.ConfigDict(settings | {"schedule": dict(decay_type="cosine")})
    lengths = dict(total_steps=10_000, batch_size=batch, data_size=10_000 * batch)
    optimizer, _ = bv_optax.make(config, params, sched_kw=lengths)

    def update(state, batch):
        def loss(params):
            logits, _ = network.apply({"params": params}, batch["image"], train=True)
            return u.softmax_xent(logits=logits, labels=batch["labels"])

        params, moments = state
        value, grads = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(grads, moments, params)
        metrics = {"loss": value, "grads": optax.global_norm(grads)}
        return (optax.apply_updates(params, updates), moments), metrics

    return repeat(jax.jit(update, donate_argnums=0), (params, optimizer.init(params)), one)


def timm(model: str, batch: int, size: int):
    """Returns timm's step in PyTorch: eager, channels-last, with torch's optimizer."""
    import timm
    import torch

    names = {"resnet50": "resnet50", "vit_s16": "vit_small_patch16_224"}
    options = dict(class_token=False, global_pool="avg") if model == "vit_s16" else {}
    network = timm.create_model(names.get(model, "resnet18"), num_classes=CLASSES, **options)
    if model == "resnet18_cifar":
        network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = torch.nn.Identity()
    network = network.to(memory_format=torch.channels_last).train()
    if model == "vit_s16":
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.1)
    else:
        sgd = dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        optimizer = torch.optim.SGD(network.parameters(), **sgd)
    images, labels = map(torch.from_numpy, draw_batch(batch, size))
    images, labels = images.permute(0, 3, 1, 2), labels.long()

    def steps(count: int) -> None:
        for _ in range(count):
            loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            if model == "vit_s16":
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return steps


def repeat(step, state, batch):
    """Returns `run(n)` for a JAX step `(state, batch) -> (state, metrics)`."""
    import jax

    def steps(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return steps


CREATE = {"imgcls": ours, "flax example": flax_example, "big_vision": big_vision, "timm": timm}


def main() -> None:
    parser = rounds.create_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--batch", type=int, help="batch size (default: that of each model)")
    args = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    # glibc reads it when a process starts, here in the children.
    os.environ["GLIBC_TUNABLES"] = launcher_memory()
    if args.child:
        (model,) = args.models
        batch, size, _ = MODELS[model]
        batch = args.batch or batch
        create = CREATE[args.child.removesuffix(PLAIN)]
        rounds.serve(
            lambda: rounds.steps_per_second(create(model, batch, size), batch, args.seconds)
        )
        return
    for model in args.models:
        batch, size, contestants = MODELS[model]
        title = f"{model}, batch {args.batch or batch}, {size} px"
        plain = {n: {"GLIBC_TUNABLES": ""} for n in contestants if n.endswith(PLAIN)}
        rounds.compare(title, list(contestants), args.rounds, f"--models={model}", env=plain)


if __name__ == "__main__":
    main()
