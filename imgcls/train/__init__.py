"""The training loop, optimizers and schedules. As a function: `imgcls.api.train.train`."""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.api.train:train")
