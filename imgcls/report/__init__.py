"""One HTML file about a trained model: `python -m imgcls.report`.

`results` computes predictions, calibration and metrics. `tables`, `charts` and `gallery` turn them
into rows, curves and images with heat maps, which `templates/report.html` lays out. `html` renders
templates, also for `imgcls.audit`.
"""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.report.__main__:report")
