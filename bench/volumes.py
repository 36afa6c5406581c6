"""Memory of streaming large volumes: int16 NIfTI files through the training loader.

    python bench/volumes.py [--side=512] [--threads=1 2] [--batches=4]

A row is a recipe of `config.data.train_transform` and a number of threads, in a process of its own.
Memory is the highest of the process less that before the first volume is read, in volumes of int16
(256 MiB at 512^3), and divided by the number of threads.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

FILES = 2
RECIPES = {
    "a window of CT, a crop": "window(40, 400)|random_crop3d(96)",
    "a window of CT, resized": "window(40, 400)|resize3d(96)",
    "another spacing": "resample((1.5, 1.5, 1.5))|window(40, 400)|random_crop3d(96)",
    "percentiles": "percentiles(1, 99)|random_crop3d(96)",
    "z-scores": "z_score|random_crop3d(96)",
    "rotated, scaled": "window(40, 400)|affine3d(15)|random_crop3d(96)",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=512, help="side of the volumes in voxels")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="loader threads")
    parser.add_argument("--batches", type=int, default=4, help="batches of one volume per thread")
    parser.add_argument("--recipe", help="measure this one alone, in this process")
    parser.add_argument("--folder", help="folder of the volumes; they are made without it")
    args = parser.parse_args()
    if args.recipe:
        measure(args)
        return
    print("| volumes are | files | threads | volumes in memory per thread | seconds per volume |")
    print("|---|---|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".nii", ".nii.gz"):
            write_files(pathlib.Path(folder, suffix, "a"), args.side, suffix)
        rows = [(name, ".nii", number) for name in RECIPES for number in args.threads]
        rows += [(next(iter(RECIPES)), ".nii.gz", number) for number in args.threads]
        for name, suffix, number in rows:
            options = [f"--side={args.side}", f"--threads={number}", f"--batches={args.batches}"]
            options += [f"--recipe={RECIPES[name]}", f"--folder={folder}/{suffix}"]
            done = subprocess.run(
                [sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True
            )
            print(f"| {name} | {suffix} | {number} | {done.stdout.strip()} |", flush=True)


def write_files(folder: pathlib.Path, side: int, suffix: str) -> None:
    """Writes volumes of smooth noise, in the range of Hounsfield units."""
    import nibabel

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(FILES):
        coarse = rng.integers(-1000, 1000, (side // 4,) * 3, np.int16)
        voxels = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(folder / f"{number}{suffix}")


def measure(args: argparse.Namespace) -> None:
    """Prints the volumes in memory per thread and the seconds per volume of one recipe."""
    import jax

    from imgcls.core.defaults import default_config
    from imgcls.data import create as data_lib
    from imgcls.distributed import sharding

    (threads,) = args.threads
    config = default_config()
    config.batch_size = threads
    config.data.source = f"folder:{args.folder}"
    config.data.channels = 1
    config.data.threads = threads
    config.data.prefetch = 1
    config.data.train_transform = config.data.eval_transform = args.recipe
    # What is loaded at first use, such as scipy's modules, is no memory of volumes.
    from scipy import ndimage  # noqa: F401

    mesh = sharding.create_mesh(config)
    jax.block_until_ready(jax.numpy.zeros(1))
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize()
    reader = data_lib.create_reader(config, data_lib.open_split(config, "train"), train=True)
    start, count = time.perf_counter(), 0
    for batch in data_lib.create_train_loader(config, reader, mesh, 0, args.batches):
        count += len(jax.block_until_ready(batch)["image"])
    seconds = (time.perf_counter() - start) / count
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    volumes = peak / (2 * args.side**3 * threads)
    print(f"{volumes:.2f} | {seconds:.1f}")


if __name__ == "__main__":
    main()
