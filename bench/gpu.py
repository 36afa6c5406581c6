"""Benchmark for a machine with a GPU: the step compared with timm's, the pipeline, CIFAR-10.

    python bench/gpu.py --images=FOLDER --cifar=FOLDER_OR_ZIP

1. ResNet-50 and ViT-B/16, batch 256, 224 px, bfloat16: ours, and timm's with torch.compile,
   channels-last and autocast, in turns; images/s, TFLOP/s, and the share of a measured peak.
2. configs/resnet50.py with batch 256 on the JPEGs of FOLDER/train/CLASS, decoding included,
   compared with the step alone.
3. configs/cifar10_fast.py with three seeds: accuracy, and seconds of the complete command.

Parts whose data is not given are skipped. `--tiny` makes everything small and does not use
torch.compile, to try the script without a GPU.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import rounds
from images import draw_folder

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLASSES = 1000
SGD = dict(name="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
ADAMW = dict(name="adamw", learning_rate=1e-3, weight_decay=0.1)
# name -> (our model, our optimizer, timm's name)
MODELS = {
    "resnet50": (dict(name="resnet50", dtype="bfloat16"), SGD, "resnet50"),
    "vit_b16": (dict(name="vit_b16", dtype="bfloat16"), ADAMW, "vit_base_patch16_224"),
}
CONTESTANTS = ["imgcls", "timm, torch.compile"]
# The contestants share the GPU, so none may preallocate its memory.
SHARING = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def ours(args) -> Callable:
    """Returns the trainer's step."""
    from ours import create_step

    model, optim, _ = MODELS[args.model]
    return create_step(model, args.batch, args.size, CLASSES, optim)


def timm(args) -> Callable:
    """Returns timm's step: compiled, channels-last, bfloat16 by autocast, torch's optimizer."""
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    options = dict(img_size=args.size) if args.model == "vit_b16" else {}
    network = timm.create_model(MODELS[args.model][2], num_classes=CLASSES, **options)
    network = network.to(device, memory_format=torch.channels_last).train()
    if args.model == "resnet50":
        sgd = dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        optimizer = torch.optim.SGD(network.parameters(), **sgd)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
    images = torch.randn(args.batch, 3, args.size, args.size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (args.batch,), device=device)
    if not args.tiny:
        network = torch.compile(network)

    def steps(count: int) -> None:
        for _ in range(count):
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()

    return steps


def measure_arithmetic(args) -> dict:
    """Measures our step, and the TFLOP/s of a large matrix product in bfloat16."""
    from ours import create_config

    from imgcls.bench.peaks import measure_peak
    from imgcls.bench.steps import measure_step

    model, optim, _ = MODELS[args.model]
    with tempfile.TemporaryDirectory() as folder:
        images = draw_folder(folder, CLASSES)
        config = create_config(images, model, args.batch, args.size, optim)
        step = measure_step(config, args.steps)["step"]
    return step | {"measured peak": measure_peak("bfloat16", 512 if args.tiny else 8192)}


def measure_pipeline(args) -> dict:
    """Measures the recipe of ResNet-50 on real images, as `python -m imgcls.bench` does."""
    from ml_collections import ConfigDict

    from imgcls.bench.steps import measure_step
    from imgcls.core.config import load

    config = load(str(ROOT / "configs" / "resnet50.py"))
    config.batch_size = args.batch
    config.model.virtual_batch_size = min(config.model.virtual_batch_size, args.batch)
    config.data.source = f"folder:{args.images}"
    config.evaluators, config.checkpoint.keep_best = ConfigDict(), None
    if args.tiny:
        config.model.dtype, config.model.stage_sizes = "float32", (1, 1)
        config.data.train_transform = f"random_resized_crop({args.size})|flip"
    return measure_step(config, args.steps)


def train_cifar(args, seed: int, folder: str) -> tuple[float, float]:
    """Returns the accuracy on the test images, and the seconds that the command took."""
    command = [sys.executable, "-m", "imgcls.main", f"--workdir={folder}/{seed}"]
    command += [f"--config={ROOT}/configs/cifar10_fast.py:data={args.cifar}"]
    command += [f"--config.seed={seed}", "--config.log.tensorboard=False"]
    if args.tiny:
        command += ["--config.data.train_split=train[:2000]", "--config.total=1 epochs"]
        command += ["--config.evaluators.test.split=test[:200]", "--config.batch_size=500"]
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    lines = pathlib.Path(folder, str(seed), "metrics.jsonl").read_text().splitlines()
    found = [m["test/accuracy"] for m in map(json.loads, lines) if "test/accuracy" in m]
    return found[-1], seconds


def print_steps(model: str, args) -> None:
    """Prints part 1 for one model. Both sides have the same network, and so the same FLOPs."""
    chosen = f"--model={model}"
    title = f"{model}, batch {args.batch}, {args.size} px, bfloat16"
    results = rounds.compare(title, CONTESTANTS, args.rounds, chosen)
    step = rounds.ask("arithmetic", chosen)
    peak = step["measured peak"]
    print(f"A step is {step['TFLOPs of a step']:.4g} TFLOPs; a matmul reaches {peak:.4g} TFLOP/s.")
    for name, values in results.items():
        achieved = statistics.median(values) / args.batch * step["TFLOPs of a step"]
        print(f"- {name}: {achieved:.4g} TFLOP/s, {100 * achieved / peak:.1f} % of the matmul's")
    print(flush=True)


def print_pipeline(args) -> None:
    """Prints part 2."""
    report = rounds.ask("pipeline")
    for part in ("step", "pipeline"):
        print(f"- configs/resnet50.py, {part}: {report[part]['images/s']:,.0f} images/s")
    waiting = report["pipeline"]["waiting for data, percent"]
    print(f"- waiting for data: {waiting:.1f} %\n", flush=True)


def print_cifar(args) -> None:
    """Prints part 3."""
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(3):
            accuracy, seconds = train_cifar(args, seed, folder)
            print(
                f"- configs/cifar10_fast.py, seed {seed}: {100 * accuracy:.2f} %, {seconds:.1f} s",
                flush=True,
            )


def main() -> None:
    parser = rounds.create_parser(__doc__)
    parser.add_argument("--images", help="directory with train/CLASS/*.jpg")
    parser.add_argument("--cifar", help="class folders of CIFAR-10, or a zip of these")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--model", choices=MODELS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ |= SHARING
    if args.tiny:
        args.batch, args.size, args.steps, args.seconds, args.rounds = 4, 32, 3, 1.0, 1
    if args.child in CONTESTANTS:
        create = ours if args.child == "imgcls" else timm
        rounds.serve(lambda: rounds.steps_per_second(create(args), args.batch, args.seconds))
    elif args.child:
        measure = {"arithmetic": measure_arithmetic, "pipeline": measure_pipeline}[args.child]
        rounds.serve(lambda: lambda: measure(args))
    else:
        for model in MODELS:
            print_steps(model, args)
        if args.images:
            print_pipeline(args)
        if args.cifar:
            print_cifar(args)


if __name__ == "__main__":
    main()
