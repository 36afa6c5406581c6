"""Compares inputs: JPEGs to batches of uint8, in images/s on this machine's CPU.

    python bench/input.py --images=FOLDER

FOLDER holds CLASS/*.jpg, the same files for all. imgcls and big_vision cache the files' bytes in
memory, timm reads them from the system's file cache. `train` takes random crops of 5 to 100% of the
area at 224 x 224 and flips; `eval` resizes (bicubic) and takes the central crop of 87.5%. At the
end the script compares the evaluation images of imgcls and timm.
"""

import argparse
import os
import tempfile

import numpy as np
import rounds
from images import link_folder

BATCH, SIZE, CORES = 128, 224, os.cpu_count()
CROP = f"random_resized_crop({SIZE}, scale=(0.05, 1.0))|flip()"
CONTESTANTS = {
    "train": ["imgcls", "big_vision, tf.data", "timm, uint8", "timm, float32 as it trains"],
    "eval": ["imgcls eval", "timm eval, uint8", "timm eval, float32 as it validates"],
}


def config_of(folder: str):
    """Returns our config, with defaults for everything else."""
    from imgcls.core.defaults import default_config

    config = default_config()
    config.batch_size = BATCH
    config.data.source = f"folder:{folder}"
    config.data.cache_gb = 10.0
    config.data.train_transform = CROP
    config.data.eval_transform = f"eval_crop({SIZE})"
    return config


def ours_train(folder: str):
    """Yields our training batches, on the device."""
    import jax

    from imgcls.data import create as data_lib
    from imgcls.distributed import sharding

    config = config_of(folder)
    source, mesh = data_lib.open_split(config, "train"), sharding.create_mesh(config)
    reader = data_lib.create_reader(config, source, train=True)
    for batch in data_lib.create_train_loader(config, reader, mesh, 0, 1_000_000):
        yield jax.block_until_ready(batch)["image"]


def ours_eval(folder: str):
    """Yields our evaluation batches, on the device, endlessly."""
    import jax

    from imgcls.data import create as data_lib
    from imgcls.distributed import sharding

    config = config_of(folder)
    source, mesh = data_lib.open_split(config, "train"), sharding.create_mesh(config)
    while True:
        for batch in data_lib.create_eval_loader(config, source, mesh, BATCH):
            yield jax.block_until_ready(batch)["image"]


def big_vision_train(folder: str):
    """Yields big_vision's training batches, by tf.data with a thread per core."""
    rounds.peer_path("BIG_VISION")
    import big_vision.pp.ops_general  # noqa: F401
    import big_vision.pp.ops_image  # noqa: F401
    import tensorflow as tf
    from big_vision.pp import builder

    recipe = f'decode_jpeg_and_inception_crop({SIZE})|flip_lr|keep("image")'
    preprocess = builder.get_preprocess_fn(recipe)
    ds = tf.data.Dataset.list_files(f"{folder}/train/*/*", shuffle=False)
    ds = ds.map(lambda file: {"image": tf.io.read_file(file)}, CORES).cache()
    ds = ds.shuffle(100_000).repeat().map(preprocess, CORES)
    options = tf.data.Options()
    options.threading.private_threadpool_size = CORES
    ds = ds.batch(BATCH, drop_remainder=True).prefetch(2).with_options(options)
    for batch in ds.as_numpy_iterator():
        yield batch["image"]


def timm_loader(folder: str, train: bool):
    """Returns timm's dataset and loader, with a worker per core.

    The loader's attribute `loader` gives the batches of the workers, before normalization.
    """
    import torch
    from timm.data import create_dataset, create_loader

    dataset = create_dataset("", root=f"{folder}/train")
    options = dict(scale=(0.05, 1.0), color_jitter=None, use_multi_epochs_loader=True)
    options |= dict(interpolation="bilinear" if train else "bicubic", crop_pct=0.875)
    loader = create_loader(
        dataset,
        (3, SIZE, SIZE),
        BATCH,
        is_training=train,
        num_workers=CORES,
        device=torch.device("cpu"),
        **options,
    )
    return dataset, loader


def timm_batches(folder: str, train: bool, normalized: bool):
    """Yields timm's batches endlessly: of the workers, or normalized as in timm's trainer."""
    _, loader = timm_loader(folder, train)
    loader = loader if normalized else loader.loader
    while True:
        for images, _ in loader:
            yield images


def create(name: str, folder: str):
    """Returns the batches of a contestant."""
    return {
        "imgcls": lambda: ours_train(folder),
        "big_vision, tf.data": lambda: big_vision_train(folder),
        "timm, uint8": lambda: timm_batches(folder, True, False),
        "timm, float32 as it trains": lambda: timm_batches(folder, True, True),
        "imgcls eval": lambda: ours_eval(folder),
        "timm eval, uint8": lambda: timm_batches(folder, False, False),
        "timm eval, float32 as it validates": lambda: timm_batches(folder, False, True),
    }[name]()


def class_and_file(path: str) -> str:
    """Returns the last two parts of a path."""
    return "/".join(path.split("/")[-2:])


def difference(folder: str) -> str:
    """Compares our evaluation images with timm's, file by file."""
    from imgcls.data import create as data_lib

    config = config_of(folder)
    source = data_lib.open_split(config, "train")
    reader = data_lib.create_reader(config, source, train=False)
    ours = {class_and_file(source.name(i)): i for i in range(len(source))}
    dataset, loader = timm_loader(folder, train=False)
    means, largest, number = [], 0, 0
    for images, _ in loader.loader:
        for image in images.numpy().transpose(0, 2, 3, 1):
            mine = reader.example(ours[class_and_file(dataset.filename(number))])["image"]
            apart = np.abs(np.int16(mine) - image)
            means.append(apart.mean())
            largest, number = max(largest, int(apart.max())), number + 1
    return (
        f"evaluation images of imgcls and timm, {number} files: mean absolute difference "
        f"{np.mean(means):.4f}/255, at most {np.max(means):.4f}/255 in an image and {largest}/255 "
        f"in a pixel; {sum(m == 0 for m in means)} images are bitwise equal"
    )


def main() -> None:
    parser = rounds.create_parser(__doc__)
    parser.add_argument("--images", required=True, help="directory with CLASS/*.jpg")
    parser.add_argument("--many", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        batches = create(args.child, args.many)
        rounds.serve(lambda: rounds.batches_per_second(batches, BATCH, args.seconds))
        return
    with tempfile.TemporaryDirectory() as work:
        many = link_folder(args.images, f"{work}/many", 16 * BATCH)
        for kind, names in CONTESTANTS.items():
            rounds.compare(f"{kind} input", names, args.rounds, f"--many={many}")
        print(difference(link_folder(args.images, f"{work}/once", 1)))


if __name__ == "__main__":
    main()
