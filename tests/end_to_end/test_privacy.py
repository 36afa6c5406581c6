"""Names of persons in the headers of scans are in nothing that the commands write."""

import gzip
import json
import pathlib
import re

import numpy as np
import pytest

from imgcls.audit.__main__ import main as audit
from imgcls.convert import main as convert
from imgcls.data.sources.open import create_source
from imgcls.main import main as train
from imgcls.predict.__main__ import main as predict
from imgcls.report.__main__ import main as report
from imgcls.runs.load import find_checkpoint
from tests.data.scans import write_dicom, write_mrc, write_nifti

SECRETS = ("Jekyll", "Lanyon", "J-4711", "19310103", "Edinburgh")


def write(root: pathlib.Path) -> None:
    """24 scans of two classes, in three formats, all with a name in their header."""
    import mrcfile
    import nibabel

    for i in range(24):
        voxels = np.random.default_rng(i).integers(0, 999, (8, 9, 10)).astype(np.int16)
        voxels[:, : 4 * (1 + i % 2)] += 2000
        folder = root / ("ill", "well")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if i % 3 == 0:
            write_dicom(
                folder / f"{i:02}",
                voxels,
                PatientName="Jekyll^Henry",
                PatientID="J-4711",
                PatientBirthDate="19310103",
                ReferringPhysicianName="Lanyon^Hastie",
                InstitutionName="Practice of Dr. Lanyon, Edinburgh",
                PatientComments="Jekyll",
            )
        elif i % 3 == 1:
            path = write_nifti(folder / f"{i:02}.nii", voxels)
            scan = nibabel.load(path)
            scan.header["descrip"] = b"Henry Jekyll 19310103"
            scan.header["aux_file"] = b"J-4711"
            scan.header["intent_name"] = b"Jekyll"
            scan.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Lanyon"))
            nibabel.save(nibabel.Nifti1Image(voxels.T, scan.affine, scan.header), path)
        else:
            path = write_mrc(folder / f"{i:02}.mrc", voxels)
            with mrcfile.open(path, "r+") as file:
                file.add_label("Jekyll, Henry: J-4711")
                file.set_extended_header(np.frombuffer(b"Lanyon" * 16, "V1"))


def find_secrets(text: str) -> list[str]:
    # Bytes of pictures and arrays may spell anything.
    text = re.sub(r"data:[\w/+]*;base64,[\w+/=]*", "", text)
    return [secret for secret in SECRETS if secret in text]


def texts_in(root: pathlib.Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    texts = {str(path): path.read_bytes() for path in files}
    texts |= {name: gzip.decompress(data) for name, data in texts.items() if name.endswith(".gz")}
    return {name: data.decode("latin-1") for name, data in texts.items()}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("scans") / "data"
    write(root)
    found = {secret for text in texts_in(root).values() for secret in find_secrets(text)}
    assert found == set(SECRETS)
    return root


def test_no_name_is_written(scans, tmp_path, capfd):
    out = tmp_path / "out"
    values = "percentiles(1, 99)|resize3d(8)"
    arguments = [
        f"--config=configs/own_volumes.py:data=folder:{scans}",
        "--config.total=2 steps",
        "--config.batch_size=8",
        "--config.model={'name': 'resnet3d_10', 'stem': 'cifar', 'width': 2, 'stage_sizes': (1,)}",
        f"--config.data.train_transform={values}",
        f"--config.data.eval_transform={values}",
        "--config.schedule.warmup=0 steps",
        "--config.checkpoint.every=2 steps",
        f"--workdir={out / 'run'}",
    ]
    assert train(arguments) == 0
    assert report([f"--workdir={out / 'run'}", "--batch_size=8"]) == 0
    files = [str(next((scans / "ill").glob(pattern))) for pattern in ("*.nii", "*.mrc", "*/*")]
    to = [f"--out={out / 'predictions.jsonl'}", f"--explain={out / 'heat'}"]
    assert predict([f"--checkpoint={out / 'run'}", *to, *files]) == 0
    assert audit([f"--data=folder:{scans}", f"--out={out / 'audit'}"]) in (0, 1)
    assert convert([f"--from=folder:{scans}", f"--to={out / 'records'}"]) == 0

    written = texts_in(out)
    names = {pathlib.Path(name).name for name in written}
    assert {"report.html", "audit.html", "audit.json", "manifest.json", "config.json"} <= names
    assert sum(name.endswith(".heat.nii.gz") for name in names) == 3
    printed = capfd.readouterr()
    leaks = {name: find_secrets(text) for name, text in written.items()}
    leaks |= {"output": find_secrets(printed.out + printed.err)}
    # Records and what a checkpoint says of its data are compressed.
    for split in ("train", "val", "test"):
        records = create_source(f"records:{out / 'records'}", split)
        for i in range(len(records)):
            leaks[records.name(i)] = find_secrets(records[i]["image"].decode("latin-1"))
    described = find_checkpoint(out / "run").read_description()
    leaks["checkpoint"] = find_secrets(json.dumps(described))
    assert {name: found for name, found in leaks.items() if found} == {}
