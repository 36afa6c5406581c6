"""Parser of transform recipes: valid recipes, and messages for invalid ones."""

import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.transforms import spec


def crop(size, scale=(0.5, 1.0), mode="reflect"):
    spec.check_integer("size", size, 1)
    spec.check_choice("mode", mode, ("reflect", "constant"))
    return "crop", size, scale, mode


def flip(p: float = 0.5):
    spec.check_number("p", p, 0, 1)
    return "flip", p


def broken(value=0):
    return len(value)


REGISTRY = {"crop": crop, "flip": flip, "broken": broken}
WHERE = "config.data.train_transform"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        ("  \n", []),
        ("flip", [("flip", 0.5)]),
        ("flip()", [("flip", 0.5)]),
        ("flip(0.25)", [("flip", 0.25)]),
        ("flip(p=1)|flip(0)", [("flip", 1), ("flip", 0)]),
        (
            " crop( 8, (-1, 2.5), mode = 'constant' ) | flip ",
            [("crop", 8, (-1, 2.5), "constant"), ("flip", 0.5)],
        ),
        ("crop(8, scale=(0.08, 1.0))\n|flip", [("crop", 8, (0.08, 1.0), "reflect"), ("flip", 0.5)]),
        ("crop(size=3, scale=None)", [("crop", 3, None, "reflect")]),
    ],
)
def test_parse(text, expected):
    assert spec.parse(text, REGISTRY, WHERE) == expected


@pytest.mark.parametrize(
    "text, parts",
    [
        ("flop", ["unknown transform 'flop'", "did you mean 'flip'", "broken, crop, flip"]),
        ("flip|zzz(1)", ["unknown transform 'zzz'", "valid: broken, crop, flip"]),
        ("crop", ["crop: missing a required argument: 'size'", "crop(size, scale=(0.5, 1.0)"]),
        ("crop(8, sclae=2)", ["crop(8, sclae=2)", "unexpected", "'sclae'", "mode='reflect')"]),
        ("flip(0.1, 0.2)", ["too many positional arguments", "valid: flip(p=0.5)"]),
        ("flip(0.1, p=0.2)", ["multiple values", "valid: flip(p=0.5)"]),
        ("flip(p=2)", ["flip(p=2): p=2 must be a number from 0 to 1"]),
        ("flip(-0.5)", ["p=-0.5 must be a number from 0 to 1"]),
        ("flip(p='high')", ["p='high' must be a number from 0 to 1"]),
        ("crop(-3)", ["size=-3 must be an integer of at least 1"]),
        ("crop(2.5)", ["size=2.5 must be an integer"]),
        ("crop(8, mode='mirror')", ["mode='mirror' must be one of reflect, constant"]),
        ("broken(3)", ["broken(3)", "has no len()"]),
        ("flip(p)", ["flip(p)", "must be written out as numbers"]),
        ("flip(1/2)", ["flip(1/2)", "must be written out as numbers"]),
        ("flip(__import__('os'))", ["must be written out as numbers"]),
        ("flip(*(1,))", ["must be written out as numbers"]),
        ("flip(**{'p': 1})", ["flip(**{'p': 1}): write every keyword once, without **"]),
        ("flip(p=1, p=2)", ["flip(p=1, p=2): write every keyword once"]),
        ("flip(", ["can't read 'flip('", "name(arguments)"]),
        ("flip||flip", ["can't read ''", "a single |"]),
        ("flip|", ["can't read ''"]),
        ("flip, flip", ["can't read 'flip, flip'"]),
        ("spec.flip(1)", ["can't read 'spec.flip(1)'"]),
        ("flip(1)(2)", ["can't read"]),
        ("crop(8, mode='a|b')", ["can't read \"crop(8, mode='a\""]),
        ("flip\0", ["can't read"]),
    ],
)
def test_mistakes_are_one_line_errors(text, parts):
    with pytest.raises(ConfigError) as error:
        spec.parse(text, REGISTRY, WHERE)
    message = str(error.value)
    assert message.startswith(f"{WHERE}: ") and "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("value", [(0.5, 0.1), (0.1, 2), (-0.1, 1), (0, 1, 2), 0.5, "01", ("a", 1)])
def test_check_range_refuses(value):
    with pytest.raises(ValueError, match=r"scale=.* must be a pair \(low, high\) from 0 to 1"):
        spec.check_range("scale", value, 0, 1)


def test_checks_accept():
    spec.check_range("scale", (0, 1), 0, 1)
    spec.check_range("sigma", [0.5, 0.5], 0)
    spec.check_number("p", 1, 0, 1)
    spec.check_integer("size", 1, 1)


def test_check_number_refuses_nan():
    with pytest.raises(ValueError, match="of at least 0"):
        spec.check_number("alpha", float("nan"), 0)
