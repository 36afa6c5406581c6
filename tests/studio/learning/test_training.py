"""The whole story by the API: train, look, suggest, audit, order. Each run is a real process.

`pytest -m slow tests/studio/learning` also stops and continues one.
"""

import json
import pathlib
import time
import types

import numpy as np
import pytest

from imgcls.core.errors import EXIT_AGAIN
from imgcls.studio.learning import process
from tests.studio.learning.server import TINY, fill, read_images, serve


@pytest.fixture(scope="module")
def done(tmp_path_factory, shared_data):
    """A server on which a run was trained while the server that started it was gone."""
    root = tmp_path_factory.mktemp("studio")
    files = read_images(shared_data, root / "cifar", 12)
    with serve(root / "home") as api:
        dataset = fill(api, files)
        started = api.post(f"datasets/{dataset}/runs", **TINY)
        api.wait(started["id"], "running")
    with serve(root / "home") as api:
        run = api.wait(started["id"])
        yield types.SimpleNamespace(api=api, dataset=dataset, run=run, root=root, files=files)


def test_a_run_survives_the_studio_that_started_it(done):
    assert done.run["exit"] == 0 and done.run["kind"] == "train" and done.run["has_report"]
    assert (done.run["step"], done.run["total"]) == (2, 2)
    assert "val/accuracy" in done.run["metrics"]
    rows = done.api.get(f"runs/{done.run['id']}/metrics")["rows"]
    assert rows and {row["step"] for row in rows} <= {1, 2}
    assert any("train/loss" in row for row in rows)
    assert done.api.get(f"runs/{done.run['id']}/metrics?since=2")["rows"] == []


def test_the_log_goes_on_where_it_was_read_to(done):
    whole = done.api.get(f"runs/{done.run['id']}/log")
    assert "step 2/2" in whole["text"]
    rest = done.api.get(f"runs/{done.run['id']}/log?since={whole['next'] - 10}")
    assert rest["text"] == whole["text"][-10:] and rest["next"] == whole["next"]


def test_each_cell_of_the_confusion_matrix_has_its_images(done):
    api, number = done.api, done.run["id"]
    found = api.get(f"runs/{number}/confusion")
    names = [c["name"] for c in found["classes"]]
    assert names == ["truck", "cat", "airplane"]
    counts = np.array(found["counts"])
    in_split = api.get(f"datasets/{done.dataset}/ids?split={found['split']}")["ids"]
    ids = [i for cell in found["images"].values() for i in cell]
    assert sorted(ids) == sorted(in_split) and counts.sum() == len(ids)
    for cell, images in found["images"].items():
        row, column = map(int, cell.split(","))
        assert counts[row, column] == len(images)
        for image in images:
            labels = api.get(f"images/{image}")["labels"]
            assert labels == [found["classes"][row]["id"]]
    mistakes = api.get(f"runs/{number}/mistakes")
    assert mistakes["total"] == len(in_split)
    assert len(mistakes["mistakes"]) == counts.sum() - np.trace(counts)
    wrong = {i for cell, c in found["images"].items() if len(set(cell.split(","))) > 1 for i in c}
    assert {m["image"] for m in mistakes["mistakes"]} == wrong


def test_the_report_is_a_page_without_an_origin(done):
    page = done.api.client.get(f"/api/runs/{done.run['id']}/report")
    assert page.status_code == 200 and "Confusion" in page.text
    assert page.headers["content-security-policy"].startswith("sandbox")


def test_suggestions_until_somebody_accepts_them(done, shared_data):
    api, dataset = done.api, done.dataset
    more = read_images(shared_data, done.root / "more", 16)
    new = api.upload(dataset, [f for f in more if f not in done.files])
    assert len(new) == 12
    assert api.get(f"datasets/{dataset}")["model_run_id"] is None
    refused = api.client.get(f"/api/datasets/{dataset}/ids?sort=uncertain")
    assert refused.status_code == 409 and refused.json()["needs"] == "suggestions"
    body = {"run": done.run["id"], "filter": {"untagged": True}}
    job = api.post(f"datasets/{dataset}/suggest", **body)
    api.wait(job["id"])
    assert api.get(f"datasets/{dataset}")["model_run_id"] == done.run["id"]
    cells = api.cells(dataset, new)
    scores = {cell["id"]: cell["prediction"]["score"] for cell in cells}
    assert all(not cell["labels"] and cell["status"] == "new" for cell in cells)
    # They are those of the model itself.
    import imgcls

    model = imgcls.load(done.root / "home" / "runs" / str(done.run["id"]))
    originals = [api.client.get(f"/api/images/{i}/original").content for i in new]
    for image, prediction in zip(new, model.predict(originals), strict=True):
        assert prediction is not None
        assert scores[image] == pytest.approx(prediction.probabilities.max(), abs=1e-5)
    least = sorted(scores.values())[-4]
    bulk = {"select": {"ids": new}, "action": {"accept": {"min": least}}}
    assert api.post(f"datasets/{dataset}/bulk", **bulk)["changed"] == 4
    cells = api.cells(dataset, new)
    for cell in cells:
        accepted = scores[cell["id"]] >= least
        assert cell["labels"] == ([cell["prediction"]["class_id"]] if accepted else [])
    # The most uncertain first, but test images anywhere.
    order = api.get(f"datasets/{dataset}/ids?sort=uncertain")["ids"]
    assert sorted(order) == sorted(api.get(f"datasets/{dataset}/ids")["ids"])
    tests = set(api.get(f"datasets/{dataset}/ids?split=test")["ids"])
    doubted = [i for i in order if i in new and i not in tests]
    assert doubted == [i for i in order if i not in tests][: len(doubted)]


def test_similar_and_diverse_by_small_features(done):
    api, dataset = done.api, done.dataset
    refused = api.client.get(f"/api/datasets/{dataset}/ids?sort=diverse")
    assert refused.status_code == 409 and refused.json()["needs"] == "features"
    job = api.post(f"datasets/{dataset}/features")
    api.wait(job["id"])
    ids = api.get(f"datasets/{dataset}/ids")["ids"]
    similar = api.get(f"datasets/{dataset}/ids?sort=similar:{ids[3]}")["ids"]
    assert similar[0] == ids[3] and sorted(similar) == sorted(ids)
    with np.load(done.root / "home" / "features" / f"dataset-{dataset}.npz") as file:
        x = dict(zip(file["ids"].tolist(), file["features"], strict=True))
    by_distance = sorted(similar[1:], key=lambda i: ((x[i] - x[ids[3]]) ** 2).sum())
    assert similar[1:] == by_distance
    assert sorted(api.get(f"datasets/{dataset}/ids?sort=diverse")["ids"]) == sorted(ids)


def test_findings_of_an_audit_are_filters(done):
    api, dataset = done.api, done.dataset
    job = api.post(f"datasets/{dataset}/audit", version=done.run["version_id"])
    run = api.wait(job["id"])
    assert run["kind"] == "audit" and run["has_report"]
    content = json.loads((done.root / "home/runs" / str(job["id"]) / "audit.json").read_text())
    suspects = [s["name"].rpartition("images/")[2] for s in content["label_errors"]["suspects"]]
    found = api.get(f"datasets/{dataset}/ids?finding=label_error")["ids"]
    shown = [api.get(f"images/{i}") for i in found]
    assert {f"{image['folder']}/{image['name']}" for image in shown} == set(suspects)
    assert all(i["findings"] for i in shown)
    order = api.get(f"datasets/{dataset}/ids?sort=likely_wrong")["ids"]
    tests = set(api.get(f"datasets/{dataset}/ids?split=test")["ids"])
    first = [api.get(f"images/{i}") for i in order if i not in tests][: len(suspects)]
    names = [f"{image['folder']}/{image['name']}" for image in first]
    assert names[:1] == [s for s in suspects if s in names][:1]


def test_a_run_that_fails_says_why(done):
    body = {**TINY, "config": {"model.name": "resnet19"}}
    run = done.api.post(f"datasets/{done.dataset}/runs", **body)
    failed = done.api.wait(run["id"], "failed")
    assert failed["exit"] == 2 and "did you mean 'resnet18'?" in failed["error"]
    confusion = done.api.client.get(f"/api/runs/{run['id']}/confusion")
    assert confusion.status_code == 409 and "see its log" in confusion.json()["error"]


@pytest.mark.slow
def test_stop_and_continue(done):
    config = {**TINY["config"], "total": "100000 steps", "checkpoint.every": "50000 steps"}
    api = done.api
    run = api.post(f"datasets/{done.dataset}/runs", **{**TINY, "config": config})["id"]
    other = api.post(f"datasets/{done.dataset}/runs", **TINY)["id"]
    while "first step after" not in api.get(f"runs/{run}/log")["text"]:
        assert api.get(f"runs/{run}")["state"] in ("waiting", "running")
        time.sleep(0.1)
    assert api.get(f"runs/{other}")["state"] == "waiting"
    assert api.post(f"runs/{other}/stop")["state"] == "stopped"
    assert api.post(f"runs/{run}/continue", 409)["error"].endswith("is continued")
    assert api.post(f"runs/{run}/stop")["state"] == "stopping"
    stopped = api.wait(run, "stopped")
    assert stopped["exit"] == EXIT_AGAIN
    folder = pathlib.Path(done.root / "home" / "runs" / str(run))
    assert not process.is_alive(folder) and any((folder / "checkpoints").iterdir())
    api.post(f"runs/{run}/continue")
    while "continue at step" not in api.get(f"runs/{run}/log")["text"]:
        assert api.get(f"runs/{run}")["state"] in ("waiting", "running")
        time.sleep(0.1)
    api.post(f"runs/{run}/stop")
    api.wait(run, "stopped")
