"""Files that run code, or write elsewhere, when they are read carelessly: refused, in one line."""

import io
import os
import pickle
import zipfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from imgcls.convert import main as convert_main
from imgcls.main import main as train_main
from imgcls.train.compile_cache import use_compile_cache
from tests.conftest import exit_code
from tests.end_to_end.test_startup import make_programs

DIGITS = ("--config=configs/digits.py", "--config.total=2 steps", "--config.compile_cache=")


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def poison_pth(file, trap) -> None:
    """As `torch.save` writes: a zip with the pickle in `archive/data.pkl`."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": Trap(trap)}, protocol=2))
        archive.writestr("archive/version", "3\n")


def poison_npz(file, trap) -> None:
    np.savez(file, w=np.array([Trap(trap)], dtype=object))


def careless_pth(file) -> None:
    with zipfile.ZipFile(file) as archive:
        pickle.loads(archive.read("archive/data.pkl"))


def careless_npz(file) -> None:
    np.load(file, allow_pickle=True)["w"]


@pytest.mark.parametrize(
    ("name", "poison", "careless"),
    [("w.pth", poison_pth, careless_pth), ("w.npz", poison_npz, careless_npz)],
)
def test_weights_do_not_run(name, poison, careless, tmp_path, monkeypatch, capsys):
    trap, file = tmp_path / "trap", tmp_path / name
    poison(file, trap)
    careless(file)
    assert trap.is_dir()
    trap.rmdir()
    monkeypatch.setattr(
        "sys.argv", ["", *DIGITS, f"--workdir={tmp_path / 'run'}", f"--config.init_from={file}"]
    )
    assert exit_code(train_main) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: init_from") and str(file) in line
    assert not trap.exists()


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("how", ["up", "absolute", "link", "shard"])
def test_nothing_is_read_or_written_outside(how, tmp_path, monkeypatch, capsys):
    """Zips whose members lead out, and a data set whose manifest does."""
    outside = tmp_path / "outside.png"
    source = tmp_path / "in" / "set.zip"
    source.parent.mkdir()
    if how == "shard":
        source = tmp_path / "in"
        manifest = (
            '{"version": 1, "class_names": ["a"], "multi_label": false, '
            '"splits": {"train": {"examples": 1, "shards": ["../outside.png"]}}}'
        )
        (source / "manifest.json").write_text(manifest)
        (source / "train.jsonl").write_text('{"name": "x", "labels": ["a"]}\n')
        outside.write_bytes(png())
    else:
        member = {"up": "../outside.png", "absolute": str(outside), "link": "cat/1.png"}[how]
        info = zipfile.ZipInfo(member)
        if how == "link":
            info.external_attr = 0o120777 << 16
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr(info, "../../outside.png" if how == "link" else png())
        if how == "up":  # As careless programs unpack.
            with zipfile.ZipFile(source) as archive:
                careless = source.parent / archive.namelist()[0]
                careless.write_bytes(archive.read(archive.namelist()[0]))
            assert outside.exists()
            outside.unlink()
    spec = f"records:{source}" if how == "shard" else f"folder:{source}"
    args = ["", f"--from={spec}", f"--to={tmp_path / 'to'}"]
    monkeypatch.setattr("sys.argv", args)
    assert exit_code(convert_main) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and line.startswith(f"error: {spec}")
    assert how == "shard" or not outside.exists()
    assert not (tmp_path / "to").exists()


@pytest.fixture
def kept(tmp_path):
    """A folder of compiled programs with one in it, and what compiles it again."""

    salt = np.random.default_rng().random()

    def compile_again() -> float:
        # Salted: what JAX takes from its own cache is not kept.
        fn = jax.jit(lambda x: x / 2 + jnp.float32(salt) * 0)
        x = np.float32(3)
        return float(make_programs(tmp_path / "cache").compile("halve", fn, x)(x))

    assert compile_again() == 1.5
    (program,) = (tmp_path / "cache" / "programs").iterdir()
    return program, compile_again


def poison_program(program, trap) -> None:
    program.write_bytes(zlib.compress(pickle.dumps(Trap(trap))))


def test_programs_are_open_to_their_user_alone(kept):
    program, _ = kept
    assert program.stat().st_mode & 0o777 == 0o600
    assert program.parent.stat().st_mode & 0o777 == 0o700
    assert program.parent.parent.stat().st_mode & 0o777 == 0o700


def test_a_program_is_code(kept, tmp_path):
    """Why the following matters: what stands in the user's own folder is unpickled."""
    program, compile_again = kept
    poison_program(program, tmp_path / "trap")
    compile_again()
    assert (tmp_path / "trap").is_dir()


@pytest.mark.parametrize("place", ["program", "programs", "cache"])
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_programs_that_others_could_write_are_not_run(place, mode, kept, tmp_path):
    program, compile_again = kept
    poison_program(program, tmp_path / "trap")
    {"program": program, "programs": program.parent, "cache": program.parent.parent}[place].chmod(
        mode
    )
    assert compile_again() == 1.5
    assert not (tmp_path / "trap").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("place", ["program", "programs"])
def test_programs_of_another_user_are_not_run(place, kept, tmp_path):
    program, compile_again = kept
    poison_program(program, tmp_path / "trap")
    os.chown(program if place == "program" else program.parent, 12345, 12345)
    assert compile_again() == 1.5
    assert not (tmp_path / "trap").exists()


def test_jax_s_own_cache_is_not_used_either(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(jax.config, "update", lambda key, value: used.append((key, value)))
    folder = tmp_path / "cache"
    config = ConfigDict({"compile_cache": str(folder)})
    use_compile_cache(config)
    assert ("jax_compilation_cache_dir", str(folder)) in used
    used.clear()
    folder.chmod(0o777)
    use_compile_cache(config)
    assert not used
