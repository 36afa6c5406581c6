"""The command `list` against the signatures of the registered functions."""

import inspect

import pytest

from imgcls import list as list_lib
from imgcls.data.transforms import image
from tests.conftest import exit_code


def test_all_kinds(capsys):
    assert list_lib.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == list(list_lib.KINDS)
    text = "\n".join(lines)
    for name in ("resnet50", "focal", "byol", "flip", "cutmix", "lars", "rsqrt", "knn", "coco"):
        assert name in text


@pytest.mark.parametrize("kind", list_lib.KINDS)
def test_each_kind(kind, capsys):
    assert list_lib.main([kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(list_lib.KINDS[kind])
    # Each part of the package has a description; other tests may have registered more parts.
    registry = list_lib.KINDS[kind]
    for name, line in zip(registry, lines[1::2], strict=True):
        assert line.strip() or not registry._origin(registry[name])[0].startswith("imgcls.")


def test_options_and_defaults(capsys):
    list_lib.main(["transforms"])
    lines = capsys.readouterr().out.splitlines()
    bare = inspect.signature(image.pad_crop)
    bare = bare.replace(
        parameters=[p.replace(annotation=p.empty) for p in bare.parameters.values()],
        return_annotation=bare.empty,
    )
    assert f"pad_crop{bare}" in lines
    summary = lines[lines.index(f"pad_crop{bare}") + 1].strip()
    assert summary == image.pad_crop.__doc__.split("\n")[0]
    list_lib.main(["objectives"])
    assert "temperature=0.1" in capsys.readouterr().out
    list_lib.main(["models"])
    text = capsys.readouterr().out
    assert "\nresnet50(" in text and "stage_sizes=(3, 4, 6, 3)" in text and "parent" not in text


def test_plugins_and_mistakes(tmp_path, capsys):
    file = tmp_path / "parts.py"
    file.write_text(
        "from imgcls.losses import register_loss\n"
        "@register_loss('listed')\n"
        "def listed(x, scale=3):\n    '''A loss to list.'''\n"
    )
    assert list_lib.main(["losses", f"--plugins={file}"]) == 0
    assert "listed(x, scale=3)\n    A loss to list.\n" in capsys.readouterr().out
    assert exit_code(lambda: list_lib.main(["losses", "--plugins=/no/file.py"])) == 2
    assert "no such file" in capsys.readouterr().err
