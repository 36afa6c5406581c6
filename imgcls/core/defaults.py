"""Every key of the config with its default and meaning."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# Keys that may change between a run and its continuation without changing its numbers.
HARMLESS_KEYS = (
    *("mesh", "log", "checkpoint", "evaluators", "guard", "processes", "compile_cache"),
    *("data.dir", "data.threads", "data.workers", "data.prefetch", "data.cache_gb"),
    *("data.device_resident", "data.max_skipped"),
)


def default_config() -> ConfigDict:
    """Every key with its default. Durations are strings: '90 epochs', '500 steps', '5 percent'."""
    c = ConfigDict()
    c.plugins = ()  # files or modules that register models, losses, ...: imgcls/core/plugins.py
    c.seed = 0
    c.total = "10 epochs"  # length of training
    c.batch_size = 128  # examples per step, over all devices and accumulated parts
    c.accumulate = 1  # parts that a batch is split into, one after the other
    c.ema = 0.0  # decay of an average of the parameters, evaluated beside them; 0 is none

    c.init_from = placeholder(str)  # weights to start from: imgcls/weights
    c.init_head = "auto"  # of them: auto (take a head that fits) | fresh | zero

    c.model = ConfigDict({"name": "resnet18", "dtype": "float32"})  # plus the model's own options
    c.objective = ConfigDict({"name": "supervised"})  # plus the objective's own options

    c.data = ConfigDict()
    c.data.source = "digits"  # KIND:PATH, such as folder:/my/pictures: imgcls/data/sources
    c.data.dir = placeholder(str)  # where TFDS data sets live, or the pictures that a file names
    c.data.train_split = "train"
    c.data.split_seed = 0  # of the stratified split of a source that has none of its own
    c.data.multi_label = placeholder(bool)  # any number of classes each; none: as the data says
    c.data.separator = "|"  # between the labels of one picture in a manifest
    c.data.sampling = "uniform"  # of training examples: uniform | balanced (every class as often)
    c.data.channels = 3
    c.data.train_transform = ""  # per example, on the host: imgcls/data/transforms/image.py
    c.data.views = (
        "one"  # pictures per example: one | two | pairs | triplets: data/loading/views.py
    )
    c.data.train_transform2 = placeholder(str)  # of the other views; none: as of the first
    c.data.partners = "auto"  # who makes a pair or triplet: auto | label | instance
    c.data.eval_transform = ""
    c.data.batch_transform = ""  # per batch, on the device: imgcls/data/transforms/batch.py
    c.data.mean = (0.5, 0.5, 0.5)  # of the pixels, in 0..1
    c.data.std = (0.5, 0.5, 0.5)
    c.data.on_error = "fail"  # an unreadable record: fail | skip
    c.data.max_skipped = 0.05  # share of records passed over, above which the run ends
    c.data.threads = placeholder(int)  # that read and augment; none: one per CPU core
    c.data.workers = 0  # processes that read and augment, in place of threads
    c.data.cache_gb = 0.0  # of a split's files kept in memory, still encoded
    c.data.prefetch = 2  # batches kept ready on the device
    c.data.device_resident = False  # all training pictures live there: data/loading/resident.py

    c.optim = ConfigDict()
    c.optim.name = "sgd"  # sgd | adam | adamw | lamb | lars | rmsprop | muon
    c.optim.learning_rate = 0.1  # the peak
    c.optim.base_batch = placeholder(int)  # 256: learning_rate is per 256 examples of a batch
    c.optim.momentum = 0.9
    c.optim.nesterov = True
    c.optim.decay = 0.9  # rmsprop: of the mean square
    c.optim.b1 = 0.9
    c.optim.b2 = 0.999
    c.optim.eps = 1e-8
    c.optim.trust_coefficient = 0.001  # lars
    c.optim.weight_decay = 0.0
    c.optim.decay_exclude = r"bias|scale|pos_embed|cls_token|gamma"  # paths without weight decay
    c.optim.clip_norm = placeholder(float)  # of the whole gradient
    # ((regex, factor), ...) on the learning rate; 0 freezes, (regex, factor, duration) after it
    c.optim.multipliers = ()
    c.optim.muon = ConfigDict()
    c.optim.muon.momentum = 0.95
    c.optim.muon.steps = 5  # of the Newton-Schulz iteration
    c.optim.muon.exclude = r"head|pos_embed|cls_token"  # paths that are no hidden matrices
    c.optim.muon.rest = "adam"  # of these and of vectors, by its own keys: adam | sgd
    c.optim.muon.fixed_norm = False  # scale matrices to sqrt(outputs) before a step; no decay then
    c.optim.lookahead = ConfigDict()
    c.optim.lookahead.every = 0  # steps between two meetings with the slow parameters; 0 is none
    c.optim.lookahead.decay = 0.5  # what the slow ones keep of themselves then ...
    c.optim.lookahead.power = 0.0  # ... times (step / total) to this power

    c.schedule = ConfigDict()
    c.schedule.name = "cosine"  # cosine | linear | step | rsqrt | constant
    c.schedule.warmup = "0 steps"
    c.schedule.final = 0.0  # last learning rate over the peak: cosine and linear
    c.schedule.boundaries = ()  # durations: step
    c.schedule.factor = 0.1  # step
    c.schedule.timescale = "10000 steps"  # rsqrt
    c.schedule.cooldown = "0 steps"  # rsqrt and constant: linearly to zero at the end

    c.mesh = ConfigDict()
    c.mesh.data = -1  # devices along each axis; -1 is all that are left
    c.mesh.fsdp = 1
    c.mesh.model = 1
    c.mesh.rules = ()  # ((regex, spec), ...) before those of imgcls/distributed/sharding.py

    c.checkpoint = ConfigDict()
    c.checkpoint.every = "1 epochs"
    c.checkpoint.keep_last = 2
    c.checkpoint.keep_best = placeholder(str)  # a metric, for example 'test/accuracy'
    c.checkpoint.on_error = "continue"  # one, or a log, that cannot be written: continue | stop

    c.guard = ConfigDict()  # a loss or gradient that is not finite: imgcls/train/nonfinite.py
    c.guard.skip = 0  # updates in a row that are left out for it; with one more the run ends ...
    c.guard.rollback = False  # ... or goes back, once, to the last good checkpoint, on other data

    c.evaluators = ConfigDict()  # name -> {type, split, every, ...}: imgcls/evaluators

    c.log = ConfigDict()
    c.log.every = "50 steps"
    c.log.tensorboard = True
    c.log.wandb = False
    c.log.profile = ()  # (first, last) step of a profile, written to WORKDIR/profile

    c.processes = ConfigDict()  # of a run of many: imgcls/distributed/processes.py
    c.processes.timeout = 300.0  # seconds; one that is silent, or does not come, is lost after it
    c.processes.stall = 1800.0  # seconds; one hangs that makes no step so long while others wait

    c.compile_cache = "~/.cache/imgcls/xla"  # compiled programs; '' for none
    return c


def is_harmless(key: str) -> bool:
    """Whether a run may continue with another value of `key` and still be the same run."""
    return any(key == k or key.startswith(k + ".") for k in HARMLESS_KEYS)
