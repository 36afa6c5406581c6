"""Ranges of keys: what they mean, and mistakes in them."""

import optuna
import pytest

from imgcls.core import config as config_lib
from imgcls.core.errors import ConfigError
from imgcls.sweep.space import check_keys, checks_of, grid_of, read_mapping, read_space


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("seed=range(3)", [0, 1, 2]),
        ("seed=range(2,9,3)", [2, 5, 8]),
        ("batch_size=int(32,64,16)", [32, 48, 64]),
        ("batch_size=int(32,70,16)", [32, 48, 64]),
        ("model.name=choice(resnet18, vit_s16)", ["resnet18", "vit_s16"]),
        ("model.stage_sizes=choice((1,1),(2,2))", ["(1,1)", "(2,2)"]),
        ("data.source=choice('a,b',c)", ["a,b", "c"]),
        ("optim.learning_rate=log(1e-4,1e-1,4)", ["0.0001", "0.001", "0.01", "0.1"]),
        ("optim.momentum=float(0,1,3)", ["0.0", "0.5", "1.0"]),
        ("optim.momentum=float(0,1)", None),
    ],
)
def test_points(text, points):
    (dimension,) = read_space([text])
    assert dimension.points() == points


def test_values_are_drawn_from_the_ranges():
    texts = ["a=log(1e-4,1e-1)", "b=float(-1,1)", "c=int(2,9)", "d=range(1,8,3)", "e=choice(x,y)"]
    space = read_space(texts)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [[d.suggest(trial) for d in space] for trial in (study.ask() for _ in range(300))]
    a, b, c, d, e = zip(*drawn, strict=True)
    assert 1e-4 <= min(a) and max(a) <= 0.1 and -1 <= min(b) < max(b) <= 1
    # Evenly on a logarithmic scale: a third of the values in each decade.
    assert 0.25 < sum(value < 1e-3 for value in a) / 300 < 0.42
    assert set(c) == set(range(2, 10)) and set(d) == {1, 4, 7} and set(e) == {"x", "y"}


def test_a_grid_has_all_combinations():
    grid = grid_of(read_space(["seed=range(2)", "model.name=choice(a,b)"]))
    assert [tuple(point.values()) for point in grid] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_ranges_in_python():
    space = {"seed": range(5), "model.name": ["a", "b"], "optim.momentum": "float(0,1)"}
    texts = ["seed=range(0,5,1)", "model.name=choice(a,b)", "optim.momentum=float(0,1)"]
    assert read_mapping(space) == texts == read_mapping(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.learning_rate=0.1", "not understood; write KEY=RANGE with log"),
        ("seed=rang(5)", "no range 'rang'; did you mean 'range'"),
        ("seed=range(x)", "'x' is not a number"),
        ("seed=range(0)", "has no values"),
        ("seed=range(1.5)", "whole numbers"),
        ("batch_size=int(64,32)", "has no values"),
        ("batch_size=int(32)", "write int"),
        ("batch_size=int(32,64,0)", "the step must be above 0"),
        ("optim.learning_rate=log(0,1)", "must begin above 0"),
        ("optim.learning_rate=log(1,0.1)", "the low end must be below"),
        ("optim.learning_rate=log(1e-3,inf)", "'inf' is not a number"),
        ("optim.learning_rate=float(0,1,1)", "number of points, at least 2"),
        ("model.name=choice()", "needs values that differ"),
        ("model.name=choice(a,a)", "needs values that differ"),
    ],
)
def test_mistakes_in_a_range(text, message):
    with pytest.raises(ConfigError, match=message):
        read_space([text])


def test_mistakes_in_a_space():
    with pytest.raises(ConfigError, match="nothing to search"):
        read_space([])
    with pytest.raises(ConfigError, match="seed: is given 2 times"):
        read_space(["seed=range(2)", "seed=range(3)"])
    with pytest.raises(ConfigError, match=r"write log\(1e-4,1e-1,5\)"):
        grid_of(read_space(["optim.learning_rate=log(1e-4,1e-1)"]))
    with pytest.raises(ConfigError, match="1,000,000 points"):
        grid_of(read_space(["seed=range(1000)", "batch_size=int(1,1000)"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.learnig_rate=log(1e-4,1)", "did you mean 'learning_rate'"),
        ("batch_size=float(1.5,2.5)", "must be of type int"),
        ("optim.nesterov=choice(True,maybe)", "must be of type bool"),
    ],
)
def test_keys_are_those_of_the_config(text, message):
    with pytest.raises(ConfigError, match=message):
        check_keys(config_lib.load("digits"), read_space([text]))


def test_each_choice_is_set_up_once():
    space = read_space(["model.name=choice(a,b,c)", "batch_size=int(32,64)", "seed=range(9)"])
    first = ["--config.model.name=a", "--config.batch_size=32", "--config.seed=0"]
    more = ["--config.model.name=b", "--config.model.name=c", "--config.batch_size=64"]
    assert checks_of(space) == [first, *([*first, text] for text in more)]
