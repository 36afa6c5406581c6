"""Compare configs/own.py with the baseline of its report on three small sets of real images.

    python bench/own.py --data=/data/cifar10_jpg.zip --out=/tmp/imgcls/own

The sets are written to OUT as folders of PNG files: `cifar5` (five classes of CIFAR-10, 1,500
images to train on), `cifar10` (all ten, 1,000 images) and `digits` (scikit-learn's digits of 8x8
pixels, 100 images; with all of them the baseline is right on 99 %). Each has 1,000 test images. For
every set and seed it runs `imgcls.main` with the recipe as it is and then `imgcls.report`, and
prints a table. The same command again continues where it was stopped. An idle machine is needed, as
the length of a run comes from the time of its steps.

The file of CIFAR-10 is a zip of `cifar10/{train,test}/CLASS/*`, as in docs/recipes.md.
"""

import argparse
import io
import json
import pathlib
import re
import subprocess
import sys
import time
import zipfile

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

REPO = pathlib.Path(__file__).resolve().parents[1]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer")
TEST_IMAGES = 1000


def write_cifar10(archive: str, folder: pathlib.Path, classes: tuple[str, ...], count: int) -> None:
    """Writes a random sample of CIFAR-10, the same number of images of each class.

    Args:
      archive: the zip.
      folder: gets `{train,test}/CLASS/*.png`.
      classes: the classes; () for all.
      count: number of training images.
    """
    with zipfile.ZipFile(archive) as file:
        names: dict[tuple[str, str], list[str]] = {}
        for name in sorted(file.namelist()):
            parts = pathlib.PurePosixPath(name).parts
            if len(parts) >= 3 and not name.endswith("/"):
                names.setdefault((parts[-3], parts[-2]), []).append(name)
        classes = classes or tuple(sorted({label for _, label in names}))
        for split, total in (("train", count), ("test", TEST_IMAGES)):
            for label in classes:
                members = names[split, label]
                order = np.random.default_rng(0).permutation(len(members))
                for index in order[: total // len(classes)]:
                    image = Image.open(io.BytesIO(file.read(members[index]))).convert("RGB")
                    save(image, folder / split / label / f"{index:05d}.png")


def write_digits(folder: pathlib.Path, count: int) -> None:
    """Writes the first `count / 10` of each of the digits to train on, and the next 100 to test."""
    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    bounds = {"train": (0, count // 10), "test": (count // 10, (count + TEST_IMAGES) // 10)}
    for label in range(10):
        members = np.flatnonzero(labels == label)
        for split, (first, last) in bounds.items():
            for index in members[first:last]:
                save(Image.fromarray(images[index]), folder / split / str(label) / f"{index}.png")


def save(image: Image.Image, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_set(name: str, data: str | None, folder: pathlib.Path) -> None:
    """Writes a set, unless it is complete."""
    complete = folder / "complete"
    if complete.exists():
        return
    if name == "digits":
        write_digits(folder / "images", 100)
    elif data is None:
        sys.exit(f"{name}: needs --data=CIFAR10.zip")
    elif name == "cifar5":
        write_cifar10(data, folder / "images", CLASSES, 1500)
    else:
        write_cifar10(data, folder / "images", (), 1000)
    complete.touch()


def run(name: str, *arguments: str) -> str:
    """Runs a command of the package, and returns its standard output."""
    command = [sys.executable, "-m", f"imgcls.{name}", *arguments]
    print(" ".join(command), flush=True)
    done = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def measure(folder: pathlib.Path, seed: int, minutes: float, extra: list[str]) -> dict:
    """Trains and reports one seed, unless that was done before; returns the results."""
    workdir = folder / f"seed{seed}"
    file = workdir / "result.json"
    if file.exists():
        return json.loads(file.read_text())
    start = time.monotonic()
    recipe = f"--config=configs/own.py:data=folder:{folder / 'images'},minutes={minutes:g}"
    output = run("main", recipe, f"--workdir={workdir}", f"--config.seed={seed}", *extra)
    seconds = time.monotonic() - start
    report = run("report", f"--workdir={workdir}", "--examples=1")
    accuracies = [float(x) for x in re.findall(r"^accuracy ([\d.]+): ", report, re.MULTILINE)]
    result = dict(zip(("model", "baseline", "majority"), accuracies, strict=True))
    result |= {"seconds": seconds, "chosen": re.findall(r"chosen: (.*)", output)}
    file.write_text(json.dumps(result, indent=2) + "\n")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", metavar="FILE", help="zip of CIFAR-10")
    add("--out", type=pathlib.Path, required=True, metavar="DIR", help="images, runs and results")
    add("--sets", default="cifar5,cifar10,digits", help="default: %(default)s")
    add("--seeds", default="0,1,2", help="default: %(default)s")
    add("--minutes", type=float, default=4.0, help="time of a run (default: %(default)s)")
    args, extra = parser.parse_known_args()
    rows = []
    for name in args.sets.split(","):
        if name not in ("cifar5", "cifar10", "digits"):
            sys.exit(f"--sets={name}: unknown; write cifar5, cifar10 or digits")
        folder = (args.out / name).absolute()
        write_set(name, args.data, folder)
        results = [
            measure(folder, int(seed), args.minutes, extra) for seed in args.seeds.split(",")
        ]
        print("\n".join(results[0]["chosen"]))
        model = [result["model"] for result in results]
        gain = 100 * (np.mean(model) - results[0]["baseline"])
        shown = ", ".join(f"{100 * accuracy:.1f}" for accuracy in model)
        rows.append(
            f"| {name} | {shown} | {100 * results[0]['baseline']:.1f} "
            f"| {100 * results[0]['majority']:.1f} | {gain:+.1f} "
            f"| {max(result['seconds'] for result in results):.0f} |"
        )
    print("\n| set | model, % | baseline, % | majority, % | gain, points | longest run, s |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
