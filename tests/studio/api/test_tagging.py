"""The API of tagging as a client sees it: roles, refusals, descriptions."""

import pytest
from starlette.testclient import TestClient

from imgcls.studio.app import create_app
from tests.studio.homes import add_dataset, add_images, add_user, new_id


@pytest.fixture
def team(home):
    """`team(role)` is a client of a user with this role; a data set with four images."""
    app = create_app(home)
    database = app.state.database
    owner = add_user(database, "ann", "owner")
    dataset, classes = add_dataset(database, owner)
    images = add_images(database, owner, dataset, 4)
    tokens = {"owner": database.write(_token, owner)}
    for name, role in (("rob", "reviewer"), ("tom", "tagger")):
        tokens[role] = database.write(_token, add_user(database, name, role))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:

        def call(role, method, path, **body):
            headers = {"authorization": f"Bearer {tokens[role]}"}
            if method != "GET":
                body = {"json": {"request_id": new_id(), **body}}
            return client.request(method, f"/api{path}", headers=headers, **body)

        yield call, dataset, classes, images


def _token(connection, user):
    from imgcls.studio.store import users

    return users.renew_token(connection, user.id)


@pytest.mark.parametrize(
    "action,lowest",
    [
        ({"tag": [1]}, "tagger"),
        ({"flag": "none"}, "tagger"),
        ({"status": "review"}, "tagger"),
        ({"split": "test"}, "reviewer"),
        ({"approve": True}, "reviewer"),
        ({"reopen": True}, "reviewer"),
        ({"remove": True}, "owner"),
    ],
)
def test_roles(team, action, lowest):
    call, dataset, _, images = team
    allowed = False
    for role in ("tagger", "reviewer", "owner"):
        allowed = allowed or role == lowest
        select = {"ids": images}
        answer = call(role, "POST", f"/datasets/{dataset}/bulk", select=select, action=action)
        assert answer.status_code == (200 if allowed else 403), answer.text


def test_tags_are_per_person(team):
    call, dataset, (cat, dog, _), images = team
    select = {"filter": {"untagged": True}}
    for role, class_id in (("tagger", cat), ("reviewer", dog)):
        action = {"tag": [class_id]}
        answer = call(role, "POST", f"/datasets/{dataset}/bulk", select=select, action=action)
        assert answer.json()["changed"] == 4
    about = call("owner", "GET", f"/images/{images[0]}").json()
    assert [a["tags"] for a in about["answers"]] == [{str(dog): {}}, {str(cat): {}}]
    assert about["disputed"] and about["status"] == "review" and about["labels"] == []
    # Nobody undoes what somebody else did: the owner's last action are the classes.
    refused = call("owner", "POST", "/undo", dataset=dataset)
    assert refused.status_code == 409 and "answers" in refused.json()["error"]
    assert call("tagger", "POST", "/undo", dataset=dataset).json()["changed"] == 4


@pytest.mark.parametrize(
    "path,body,said",
    [
        ("answers", {"items": []}, "at least 1"),
        ("answers", {"items": [{"image": 99999, "add": {}}]}, "no image 99999"),
        ("answers", {"items": [{"image": 1}, {"image": 1}]}, "twice"),
        ("answers", {"items": [{"image": 1, "add": {"x": {}}}]}, "pattern"),
        ("answers", {"items": [{"image": 1, "add": {"999": {}}}]}, "no class 999"),
        ("answers", {"items": [{"image": 1, "add": {"1": {}, "2": {}}}]}, "single-label"),
        ("answers", {"items": [{"image": 1, "flag": "maybe"}]}, "none"),
        ("answers", {"items": [{"image": 1, "tag": 3}]}, "Extra inputs"),
        ("bulk", {"select": {}, "action": {"tag": [1]}}, "either ids or filter"),
        ("bulk", {"select": {"ids": [1]}, "action": {}}, "write any of"),
        ("bulk", {"select": {"filter": {"clas": 1}}, "action": {"tag": [1]}}, "clas"),
        ("bulk", {"select": {"ids": [1]}, "action": {"status": "done"}}, "review"),
    ],
)
def test_mistakes_are_one_line(team, path, body, said):
    call, dataset, _, _ = team
    answer = call("owner", "POST", f"/datasets/{dataset}/{path}", **body)
    assert 400 <= answer.status_code < 500 and answer.json().keys() == {"error"}
    assert said in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_every_operation_is_described(studio):
    description = studio.get("/openapi.json").json()
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), f"{method} {path}"
            assert operation["tags"], f"{method} {path}"
