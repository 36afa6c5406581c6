"""Checks of a dataset before training: `python -m imgcls.audit`.

`reading` reads and measures every image once. Each check works on the measurements:

    class_counts   number of images of each class in each split
    duplicates     equal and nearly equal images, above all across splits
    quality        dark, bright, blurry, empty and odd images
    label_errors   labels that contradict a classifier that was not trained on them
    shortcuts      simple properties that predict the label

`checks` runs all of them, `findings` describes the results in words, and `page` and `as_json` write
audit.html and audit.json.
"""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.audit.__main__:audit")
