"""The command `audit`: exit codes, output, files, and untrusted names."""

import html
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from imgcls.audit import checks, shortcuts
from imgcls.audit.__main__ import main
from tests.conftest import exit_code

STRANGE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    monkeypatch.setattr(checks, "find_shortcuts", lambda p, s: shortcuts.find_shortcuts(p, s, 999))


def write(folder, count: int = 60, classes=("a", "b"), splits=("train", "test"), seed: int = 0):
    """Writes distinct images to class folders; no property predicts the class."""
    for i, pixels in enumerate(noise(count, seed)):
        place = folder / splits[i // len(classes) % len(splits)] / classes[i % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i:03}.png")
    return folder


def noise(count: int, seed: int) -> np.ndarray:
    """Draws blurred noise, uint8 `[N, 32, 32, 3]`."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    resized = [Image.fromarray(x).resize((32, 32), Image.Resampling.BICUBIC) for x in small]
    return np.stack([np.asarray(x) for x in resized])


def audit(tmp_path, *args: str, data=None) -> tuple[int, dict, str]:
    out = tmp_path / "out"
    source = data or f"folder:{tmp_path / 'data'}"
    code = exit_code(lambda: main([f"--data={source}", f"--out={out}", *args]))
    if not (out / "audit.json").exists():
        return code, {}, ""
    return code, json.loads((out / "audit.json").read_text()), (out / "audit.html").read_text()


def test_clean_dataset(tmp_path, capsys):
    write(tmp_path / "data")
    code, found, page = audit(tmp_path)
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert found["counts"] == {"train": {"a": 15, "b": 15}, "test": {"a": 15, "b": 15}}
    assert found["pictures"] == 60 and "No problems found" in page
    assert not [f for f in found["findings"] if f["level"] == "finding"]
    # Folders named like a class or a split are not a property.
    assert not any("folder" in f["text"] for f in found["findings"])
    assert f"page: {tmp_path / 'out' / 'audit.html'}" in printed
    assert set(found) == {
        *("version", "data", "checkpoint", "class_names", "multi_label", "splits", "pictures"),
        *("findings", "unreadable", "problems", "counts", "properties", "duplicates", "quality"),
        *("label_errors", "shortcuts", "groups"),
    }


def test_all_findings(tmp_path, capsys):
    data = write(tmp_path / "data", classes=("a", "b", STRANGE))
    leak = next((data / "train" / "a").iterdir())
    (data / "test" / "b" / f"{STRANGE}.png").parent.mkdir(parents=True, exist_ok=True)
    (data / "test" / "b" / "x<img src=x onerror=alert(2)>\x1b[2J.png").write_bytes(
        leak.read_bytes()
    )
    (data / "train" / "a" / "\x1b[2Jbroken.jpg").write_bytes(b"\xff\xd8 no image")
    (data / "train" / "only here").mkdir()
    (data / "train" / "only here" / "1.png").write_bytes(leak.read_bytes())
    code, found, page = audit(tmp_path)
    printed = capsys.readouterr().out
    assert code == 1
    message = {f["check"]: f["text"] for f in found["findings"] if f["level"] == "finding"}
    assert {"reading", "duplicates", "balance"} <= message.keys()
    assert "broken.jpg" in message["reading"] and "broken.jpg" in printed
    assert [u["name"].endswith("broken.jpg") for u in found["unreadable"]] == [True]
    assert "'only here'" in "".join(f["text"] for f in found["findings"])
    assert len(found["duplicates"]["exact"]) == 1
    # Names are escaped.
    assert STRANGE.split("/")[0] not in page.replace(html.escape(STRANGE), "")
    assert "<img src=x" not in page and html.escape("x<img src=x onerror=alert(2)>") in page
    assert "\x1b" not in printed and "?[2Jbroken.jpg" in printed


def test_zip_and_sample(tmp_path, capsys):
    data = write(tmp_path / "unpacked")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in sorted(data.rglob("*.png")):
            archive.write(file, file.relative_to(data))
    source = f"folder:{tmp_path / 'all.zip'}"
    code, found, _ = audit(tmp_path, "--splits=test", data=source)
    assert code == 0 and found["splits"] == ["test"] and found["pictures"] == 30
    code, found, _ = audit(tmp_path, "--max_images=40", "--seed=3", data=source)
    assert found["pictures"] == 40 and found["splits"] == ["train", "test"]
    both = found["counts"]
    assert audit(tmp_path, "--max_images=40", "--seed=3", data=source)[1]["counts"] == both


def test_multi_label_manifest(tmp_path, capsys):
    rows = ["image,labels,split"]
    for i, pixels in enumerate(noise(40, 1)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'|'.join(n for n in 'xyz' if (i + ord(n)) % 3)},train")
    rows.append("gone.png,x,train")
    (tmp_path / "all.csv").write_text("\n".join(rows))
    code, found, page = audit(tmp_path, data=f"manifest:{tmp_path / 'all.csv'}")
    assert code == 1 and found["multi_label"]
    (finding,) = [f for f in found["findings"] if f["level"] == "finding"]
    assert finding["check"] == "reading" and "gone.png" in finding["text"]
    assert found["problems"]["counts"] == {"missing image": 1}
    assert {t["target"] for t in found["shortcuts"]["tests"]} <= set("xyz")
    assert "(multi-label)" in page


def test_imbalanced_classes(tmp_path, capsys):
    data = write(tmp_path / "data", 240, splits=("train",))
    for file in sorted((data / "train" / "b").iterdir())[5:]:
        file.unlink()
    code, found, _ = audit(tmp_path)
    texts = [f["text"] for f in found["findings"] if f["check"] == "balance"]
    assert code == 1 and len(texts) == 2
    assert "fewer than 10 images of a class: 'b' (5)" in texts
    assert any("24 times" in text for text in texts)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data=folder:/none"], "/none"),
        (["--data=folder:{empty}"], "no images"),
        (["--data=folder:{one}"], "has only one class, 'a'"),
        (["--data=folder:{broken}"], "none of the 3 images can be read"),
        (["--data=folder:{two}", "--splits=train,extra"], "extra"),
        (["--data=folder:{two}", "--checkpoint=/none"], "/none"),
        (["--data=folder:{two}", "--max_images=0"], "--max_images=0"),
        (["--data=nonsense"], "nonsense"),
        (["--data=folder:{two}", "--out={file}"], "--out="),
    ],
)
def test_mistakes(tmp_path, capsys, args, message):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "one", 4, classes=("a",))
    write(tmp_path / "two", 40)
    for name in "abc":
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "1.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "file").write_text("")
    places = {k: tmp_path / k for k in ("empty", "one", "two", "broken", "file")}
    args = [f"--out={tmp_path / 'out'}", *(a.format(**places) for a in args)]
    assert exit_code(lambda: main(args)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_unknown_flag(capsys):
    assert exit_code(lambda: main(["--data=digits", "--max_image=3"])) == 2
    assert "--max_image" in capsys.readouterr().err


@pytest.mark.slow
def test_in_its_own_process(command, tmp_path):
    write(tmp_path / "data")
    done = command("audit", f"--data=folder:{tmp_path / 'data'}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
