"""The check of a data set before anyone trains on it: `python -m imgcls.audit`.

One pass reads and measures every picture (`reading`); the checks work on what was measured:

    balance        how many pictures each class has in each split
    duplicates     the same picture twice, above all across splits
    quality        dark, bright, blurry, empty, odd pictures
    label_errors   labels that a classifier which has not seen them contradicts
    shortcuts      simple properties that give the label away
"""
