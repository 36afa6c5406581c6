"""Every key of the config, with its default value and its meaning."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# Keys that may change when a run is resumed, as its numbers do not depend on them.
HARMLESS_KEYS = (
    *("mesh", "log", "checkpoint", "evaluators", "guard", "processes", "compile_cache"),
    *(
        "data.missing_splits",
        "data.dir",
        "data.threads",
        "data.workers",
        "data.prefetch",
        "data.cache_gb",
    ),
    *("data.device_resident", "data.max_skipped"),
)
# Keys that are unset by default, because a run keeps the value with which it began:
# {key: (value of a run whose checkpoint lacks the key, value of a new run)}.
KEPT_KEYS = {
    "ema_warmup": (False, True),
    "batch_norm.variance": ("one_pass", "shifted"),
    "batch_norm.frozen": ("train", "evaluate"),
    "optim.always_adapt": (True, False),
}


def default_config() -> ConfigDict:
    """Returns all keys with their defaults, one function per section.

    Durations are strings: '90 epochs', '500 steps', '5 percent'. A `placeholder(type)` is a key of
    that type without a value.
    """
    c = ConfigDict()
    c.plugins = ()  # files or modules that register models, losses, ...: imgcls/core/plugins.py
    c.seed = 0
    c.total = "10 epochs"  # length of training
    c.batch_size = 128  # examples per step, over all devices and accumulation steps
    c.accumulate = 1  # number of parts of a batch whose gradients are accumulated
    c.ema = 0.0  # decay of averaged parameters, which are evaluated too; 0: no average
    # Whether its decay after n updates is min(ema, (1 + n) / (10 + n)); unset: True, except that a
    # run continues as it began.
    c.ema_warmup = placeholder(bool)

    c.init_from = placeholder(str)  # weights to start from: imgcls/models/weights
    c.init_head = "auto"  # head of these weights: auto (use it if it fits) | fresh | zero

    c.model = ConfigDict({"name": "resnet18", "dtype": "float32"})  # and options of the model
    c.objective = ConfigDict({"name": "supervised"})  # and options of the objective
    c.batch_norm = _batch_norm()
    c.data = _data()
    c.optim = _optim()
    c.schedule = _schedule()
    c.mesh = _mesh()
    c.checkpoint = _checkpoint()
    c.guard = _guard()
    c.evaluators = ConfigDict()  # name -> {type, split, every, ...}: imgcls/evaluate/evaluators
    c.auto = _auto()
    c.log = _log()
    c.processes = _processes()
    c.compile_cache = "~/.cache/imgcls/xla"  # directory of compiled programs; '': no cache
    return c


def _batch_norm() -> ConfigDict:
    """BatchNorm in training: imgcls/models/layers/norm.py."""
    c = ConfigDict()
    # shifted | one_pass: as in version 0.1, inexact beside a large mean; unset: see KEPT_KEYS.
    c.variance = placeholder(str)
    # Layers that optim.multipliers freeze: evaluate (the running statistics are used, and stay) |
    # train (those of the batch are used, and the running ones move); unset: see KEPT_KEYS.
    c.frozen = placeholder(str)
    return c


def _data() -> ConfigDict:
    c = ConfigDict()
    c.source = "digits"  # KIND:PATH, such as folder:/my/images: imgcls/data/sources
    c.dir = placeholder(str)  # directory of TFDS datasets, or of the images named in a file
    c.train_split = "train"
    # Splits that the config names and the data lacks: fail | replace (val: a part of train; test:
    # val): imgcls/data/missing_splits.py
    c.missing_splits = "fail"
    c.split_seed = 0  # seed of the stratified split of a source that has no splits
    c.multi_label = placeholder(bool)  # any number of classes per image; unset: as in the data
    c.separator = "|"  # between the labels of one image in a manifest
    c.label_columns = ()  # manifest: columns of 0 and 1, one for each class; (): as recognized
    c.question = placeholder(str)  # Label Studio: name of the choices that are the labels
    c.sampling = "uniform"  # of training examples: uniform | balanced (all classes equally often)
    c.channels = 3  # 1 (gray), 3 (RGB), 4 (RGBA), or the bands of TIFF or .npy files
    # Bits that gray values of 16 or 32 bits use, such as 12; unset: as the file declares.
    c.bits = placeholder(int)
    c.train_transform = ""  # per example, on the host: imgcls/data/transforms/image.py
    c.views = "one"  # images per example: one | two | pairs | triplets: data/loading/views.py
    c.train_transform2 = placeholder(str)  # for the other views; unset: train_transform
    c.partners = "auto"  # how pairs and triplets are formed: auto | label | instance
    c.eval_transform = ""
    c.batch_transform = ""  # per batch, on the device: imgcls/data/transforms/batch.py
    c.mean = (0.5, 0.5, 0.5)  # of the pixels, scaled to 0..1
    c.std = (0.5, 0.5, 0.5)
    c.on_error = "fail"  # for an unreadable record: fail | skip
    c.max_skipped = 0.05  # training stops if a larger share of the records is skipped
    c.threads = placeholder(int)  # for reading and augmentation; unset: one per CPU core
    c.workers = 0  # processes for reading and augmentation, in place of threads
    c.cache_gb = 0.0  # memory for the encoded files of a split
    c.prefetch = 2  # batches that are prefetched to the device
    c.device_resident = False  # keep all training images on the device: data/loading/resident.py
    return c


def _optim() -> ConfigDict:
    c = ConfigDict()
    c.name = "sgd"  # sgd | adam | adamw | lamb | lars | rmsprop | muon
    c.learning_rate = 0.1  # peak
    c.base_batch = placeholder(int)  # 256: learning_rate is for batches of 256, scaled linearly
    c.momentum = 0.9
    c.nesterov = True
    c.decay = 0.9  # rmsprop: of the mean square
    c.b1 = 0.9
    c.b2 = 0.999
    c.eps = 1e-8
    c.trust_coefficient = 0.001  # lars
    # lamb: trust ratio also for parameters without weight decay; unset: see KEPT_KEYS.
    c.always_adapt = placeholder(bool)
    c.weight_decay = 0.0
    c.decay_exclude = r"bias|scale|pos_embed|cls_token|gamma"  # parameters without weight decay
    c.clip_norm = placeholder(float)  # maximum global norm of the gradient
    # Factors of the learning rate by parameter, ((regex, factor), ...): 0 freezes, and saves the
    # backward pass; (regex, factor, duration) freezes after the duration.
    c.multipliers = ()
    c.muon = ConfigDict()
    c.muon.momentum = 0.95
    c.muon.steps = 5  # of the Newton-Schulz iteration
    c.muon.exclude = r"head|pos_embed|cls_token"  # parameters that are not hidden matrices
    c.muon.rest = "adam"  # optimizer of these and of vectors, with its own keys: adam | sgd
    c.muon.fixed_norm = False  # scale matrices to sqrt(outputs) before each step; no weight decay
    c.lookahead = ConfigDict()
    c.lookahead.every = 0  # steps between updates of the slow parameters; 0: no lookahead
    c.lookahead.decay = 0.5  # share of the slow parameters that an update keeps ...
    c.lookahead.power = 0.0  # ... times (step / total) to this power
    return c


def _schedule() -> ConfigDict:
    c = ConfigDict()
    c.name = "cosine"  # cosine | linear | step | rsqrt | constant
    c.warmup = "0 steps"
    c.final = 0.0  # cosine and linear: last learning rate as a fraction of the peak
    c.boundaries = ()  # step: durations
    c.factor = 0.1  # step
    c.timescale = "10000 steps"  # rsqrt
    c.cooldown = "0 steps"  # rsqrt and constant: linear decay to zero at the end
    return c


def _mesh() -> ConfigDict:
    c = ConfigDict()
    c.data = -1  # devices along each axis; -1: all remaining devices
    c.fsdp = 1
    c.model = 1
    c.rules = ()  # ((regex, spec), ...), before those of imgcls/distributed/sharding.py
    return c


def _checkpoint() -> ConfigDict:
    c = ConfigDict()
    c.every = "1 epochs"
    c.keep_last = 2
    c.keep_best = placeholder(str)  # a metric, for example 'test/accuracy'
    c.use = "newest"  # checkpoint that `predict`, `evaluate`, ... load of a workdir: newest | best
    c.on_error = "continue"  # if a checkpoint or log can't be written: continue | stop
    return c


def _guard() -> ConfigDict:
    """Handling of losses and gradients that are not finite: imgcls/train/nonfinite.py."""
    c = ConfigDict()
    c.skip = 0  # consecutive updates that may be skipped; after one more, training stops ...
    c.rollback = False  # ... or, once, returns to the last good checkpoint, with other data
    return c


def _auto() -> ConfigDict:
    """What is chosen before training where a key is 'auto': imgcls/train/auto.py."""
    c = ConfigDict()
    c.minutes = placeholder(float)  # time for the run; unset: nothing is chosen
    c.size = placeholder(int)  # side of the images; unset: by the images' own sizes
    c.tflops = placeholder(float)  # TFLOP/s of training steps; unset: measured
    return c


def _log() -> ConfigDict:
    c = ConfigDict()
    c.every = "50 steps"
    c.tensorboard = True
    c.wandb = False
    c.profile = ()  # (first, last) step of a profile, written to WORKDIR/profile
    return c


def _processes() -> ConfigDict:
    """Timeouts of a run of several processes: imgcls/distributed/processes.py."""
    c = ConfigDict()
    c.timeout = 300.0  # seconds without a heartbeat after which a process is considered lost
    c.stall = 1800.0  # seconds without a step, while others wait, after which one is stuck
    return c


def is_harmless(key: str) -> bool:
    """Whether a run gives the same numbers if it is resumed with another value of `key`."""
    return any(key == k or key.startswith(k + ".") for k in HARMLESS_KEYS)
