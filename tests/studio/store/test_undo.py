"""Undo and redo: random actions of several people against a model in plain Python."""

import copy
import random

import pytest
import sqlalchemy as sa

from imgcls.studio.errors import Conflict, Refused
from imgcls.studio.store import answers, bulk, classes, datasets, schema, undo
from imgcls.studio.store.check import check
from tests.studio.homes import add_dataset, add_images, add_user, new_id

ROLES = ("owner", "reviewer", "tagger")
PARTS = ("split", "comment", "in_review", "reviewed_by")


class Model:
    """What the studio has to do, image by image."""

    def __init__(self, kind, taggers, images, class_ids, splits):
        self.kind, self.taggers = kind, taggers
        self.classes = {c: "live" for c in class_ids}
        self.images = {
            i: {"split": splits[i], "comment": "", "in_review": False, "reviewed_by": None}
            for i in images
        }
        self.answers = {}  # (image, user) -> (frozenset of raw classes, flag)
        self.stacks = {}  # user -> [done, undone]

    def resolve(self, c):
        while self.classes[c] not in ("live", "deleted"):
            c = self.classes[c]
        return c if self.classes[c] == "live" else None

    def named(self, raw):
        return frozenset(self.resolve(c) for c in raw) - {None}

    def votes(self, i):
        return {u: (self.named(raw), f) for (n, u), (raw, f) in self.answers.items() if n == i}

    def outcome(self, i):
        row, votes = self.images[i], self.votes(i)
        said = {u: v for u, (v, f) in votes.items() if f == "none" or (v and f is None)}
        if row["reviewed_by"] is not None:
            if row["reviewed_by"] in said:
                return said[row["reviewed_by"]], "done"
            return self.most(list(said.values())) or frozenset(), "done"
        enough = len(said) >= self.taggers
        best = self.most(list(said.values())) if enough else None
        if row["in_review"] or (enough and best is None):
            return best or frozenset(), "review"
        if enough:
            return best, "done"
        if any(f == "unsure" for _, f in votes.values()):
            return frozenset(), "review"
        touched = any(v or f for v, f in votes.values())
        return frozenset(), "in_progress" if touched else "new"

    def most(self, said):
        if not said:
            return None
        if self.kind == "single":
            ranked = sorted({v: said.count(v) for v in said}.items(), key=lambda p: -p[1])
            return None if len(ranked) > 1 and ranked[0][1] == ranked[1][1] else ranked[0][0]
        chosen = set()
        for c in set().union(*said):
            share = sum(c in v for v in said) / len(said)
            if share == 0.5:
                return None
            if share > 0.5:
                chosen.add(c)
        if not chosen and said.count(frozenset()) / len(said) <= 0.5:
            return None
        return frozenset(chosen)

    # ---- Actions. Each returns the changes {image: (before, after)}, of parts and "answer".

    def answer(self, i, u, add=None, remove=None, flag="keep"):
        old = self.answers.get((i, u))
        raw, f = old or (frozenset(), None)
        if remove:
            raw = frozenset(c for c in raw if self.resolve(c) != remove)
        if add:
            raw = frozenset(c for c in raw if self.resolve(c) != add)
            raw = frozenset({add}) if self.kind == "single" else raw | {add}
            f = None if f in ("none", "skip") else f
        if flag != "keep":
            f = flag
            raw = frozenset() if flag == "none" else raw
        return old, ((raw, f) if raw or f else None)

    def commit(self, u, changes):
        changes = {i: (b, a) for i, (b, a) in changes.items() if b != a}
        self.put({i: a for i, (_, a) in changes.items()}, u)
        if changes:
            done, undone = self.stacks.setdefault(u, ([], []))
            done.append(("images", changes))
            undone.clear()
        return len(changes)

    def put(self, values, u):
        for i, parts in values.items():
            for name, value in parts.items():
                if name != "answer":
                    self.images[i][name] = value
                elif value is None:
                    self.answers.pop((i, u), None)
                else:
                    self.answers[i, u] = value

    def swap(self, u, back):
        """Undoes (`back`) or redoes; returns the images that change, or None if all are stale."""
        done, undone = self.stacks.setdefault(u, ([], []))
        kind, changes = (done if back else undone).pop()
        (undone if back else done).append((kind, changes))
        if kind == "class":
            c, before, after = changes
            self.classes[c] = before if back else after
            return 0
        kept = {}
        for i, (before, after) in changes.items():
            now, then = (after, before) if back else (before, after)
            same = all(
                (self.answers.get((i, u)) if n == "answer" else self.images[i][n]) == v
                for n, v in now.items()
            )
            frozen = self.images[i]["reviewed_by"] is not None and "reviewed_by" not in now
            if same and not (frozen and "answer" in now):
                kept[i] = then
        if not kept:
            (done if back else undone).append((undone if back else done).pop())
            return None
        self.put(kept, u)
        # What was left out by an undo is not part of its redo.
        stack = undone if back else done
        stack[-1] = (kind, {i: changes[i] for i in kept})
        return len(kept)


def state(database, dataset):
    """Labels, status, parts and answers of all images as the tables have them."""
    with database.read() as c:
        rows = c.execute(sa.select(schema.image).where(schema.image.c.dataset_id == dataset)).all()
        labels = {row.id: set() for row in rows}
        for i, class_id in c.execute(sa.select(schema.label)):
            labels[i].add(class_id)
        given = {
            (i, u): (frozenset(map(int, tags)), flag)
            for i, u, tags, flag in c.execute(
                sa.select(*(schema.answer.c[n] for n in ("image_id", "user_id", "tags", "flag")))
            )
        }
        assert check(c) == []
    return rows, labels, given


def compare(database, dataset, model):
    rows, labels, given = state(database, dataset)
    assert given == model.answers
    for row in rows:
        assert {n: row._mapping[n] for n in PARTS} == model.images[row.id]
        assert (labels[row.id], row.status) == model.outcome(row.id), row.id


@pytest.mark.parametrize("seed", range(6))
def test_random_actions_of_several_people(database, seed):
    rng = random.Random(seed)
    kind, taggers = rng.choice(["single", "multi"]), rng.choice([1, 2, 3])
    people = [add_user(database, n, r) for n, r in zip("abc", ROLES, strict=True)]
    dataset, ids = add_dataset(database, people[0], "uvwxyz", kind=kind, taggers=taggers)
    images = add_images(database, people[0], dataset, 12)
    rows, _, _ = state(database, dataset)
    model = Model(kind, taggers, images, ids, {row.id: row.split for row in rows})
    model.stacks[people[0].id] = ([("class", (None, None, None))], [])  # its creation

    def act():
        user, live = rng.choice(people), [c for c in ids if model.classes[c] == "live"]
        what = rng.choice(["answer"] * 4 + ["bulk"] * 4 + ["undo"] * 4 + ["redo"] * 3 + ["class"])
        done, undone = model.stacks.setdefault(user.id, ([], []))
        if what in ("undo", "redo"):
            stack = done if what == "undo" else undone
            if not stack or (stack[-1][0] == "class" and stack[-1][1][0] is None):
                return
            before = copy.deepcopy(model.stacks)
            expected = model.swap(user.id, what == "undo")
            try:
                result = database.write(getattr(undo, what), user, dataset, new_id())
            except Conflict as e:
                assert expected is None and "changed since" in str(e)
                model.stacks = before
            else:
                assert result["changed"] == expected
        elif what == "class" and len(live) > 2 and user.role != "tagger":
            c, into = rng.sample(live, 2)
            if rng.random() < 0.5:
                database.write(classes.delete, user, c, new_id())
                after = "deleted"
            else:
                database.write(classes.merge, user, c, into, new_id())
                after = into
            model.classes[c] = after
            done.append(("class", (c, "live", after)))
            undone.clear()
        elif what == "answer":
            answer_one(user, rng.choice(images), live)
        elif what == "bulk":
            act_in_bulk(user, rng.sample(images, rng.randint(1, 12)), live)

    def answer_one(user, i, live):
        item, expected = {"image": i}, {}
        if rng.random() < 0.6:
            expected["add"] = rng.choice(live)
            item["add"] = {str(expected["add"]): {}}
        elif rng.random() < 0.5:
            expected["remove"] = rng.choice(live)
            item["remove"] = [expected["remove"]]
        else:
            item["flag"] = expected["flag"] = rng.choice([None, "none", "unsure", "skip"])
        old, new = model.answer(i, user.id, **expected)
        before, after = ({"answer": old}, {"answer": new}) if old != new else ({}, {})
        if rng.random() < 0.2:
            item["comment"] = str(rng.randint(0, 3))
            if item["comment"] != model.images[i]["comment"]:
                before["comment"] = model.images[i]["comment"]
                after["comment"] = item["comment"]
        try:
            database.write(answers.write, user, dataset, new_id(), [item])
        except Conflict as e:
            assert "is reviewed" in str(e) and model.images[i]["reviewed_by"] is not None
            return
        assert model.images[i]["reviewed_by"] is None
        model.commit(user.id, {i: (before, after)})

    def act_in_bulk(user, chosen, live):
        action, tagging, parts = {}, {}, {}
        kind_of = rng.choice(["tag", "untag", "flag", "split", "status", "approve", "reopen"])
        if kind_of in ("split", "approve", "reopen") and user.role == "tagger":
            return
        if kind_of == "tag":
            tagging["add"] = rng.choice(live)
            action["tag"] = [tagging["add"]]
        elif kind_of == "untag":
            tagging["remove"] = rng.choice(live)
            action["untag"] = [tagging["remove"]]
        elif kind_of == "flag":
            action["flag"] = tagging["flag"] = rng.choice([None, "none", "unsure", "skip"])
        elif kind_of == "split":
            action["split"] = parts["split"] = rng.choice(["train", "val", "test"])
        else:
            action[kind_of] = "review" if kind_of == "status" else True
        changes = {}
        for i in chosen:
            row, before, after = model.images[i], {}, {}
            if tagging:
                if row["reviewed_by"] is not None:
                    continue
                before["answer"], after["answer"] = model.answer(i, user.id, **tagging)
            wanted = dict(parts)
            if kind_of == "status" and row["reviewed_by"] is None:
                wanted["in_review"] = True
            if kind_of == "reopen":
                wanted |= {"reviewed_by": None, "in_review": False}
            if kind_of == "approve":
                votes = model.votes(i)
                said = {u: v for u, (v, f) in votes.items() if f == "none" or (v and f is None)}
                if not said or (user.id not in said and model.most(list(said.values())) is None):
                    continue
                if row["reviewed_by"] is None:
                    wanted |= {"reviewed_by": user.id, "in_review": False}
            for name, value in wanted.items():
                if row[name] != value:
                    before[name], after[name] = row[name], value
            changes[i] = (before, after)
        result = database.write(bulk.apply, user, dataset, new_id(), chosen, action)
        assert result["changed"] == model.commit(user.id, changes)
        assert result["changed"] + result["skipped"] == len(chosen)

    for _ in range(60):
        act()
        compare(database, dataset, model)


def test_undo_leaves_what_others_changed_since(database):
    owner, other = add_user(database, "a", "owner"), add_user(database, "b", "reviewer")
    fractions = {"train": 1.0, "val": 0.0, "test": 0.0}
    dataset, (cat, dog, _) = add_dataset(database, owner, fractions=fractions)
    images = add_images(database, owner, dataset, 3)
    database.write(bulk.apply, owner, dataset, new_id(), images, {"split": "test"})
    database.write(bulk.apply, other, dataset, new_id(), images[:1], {"split": "val"})
    result = database.write(undo.undo, owner, dataset, new_id())
    assert (result["changed"], result["skipped"]) == (2, 1)
    # One image alone: refused.
    database.write(bulk.apply, owner, dataset, new_id(), images[:1], {"split": "test"})
    database.write(bulk.apply, other, dataset, new_id(), images[:1], {"split": "val"})
    with pytest.raises(Conflict, match="changed since"):
        database.write(undo.undo, owner, dataset, new_id())


def test_a_repeated_undo_is_one_undo(database):
    owner = add_user(database, "a", "owner")
    dataset, (cat, dog, _) = add_dataset(database, owner)
    images = add_images(database, owner, dataset, 2)
    for class_id in (cat, dog):
        database.write(bulk.apply, owner, dataset, new_id(), images, {"tag": [class_id]})
    request = new_id()
    first = database.write(undo.undo, owner, dataset, request)
    assert database.write(undo.undo, owner, dataset, request) == first
    _, labels, _ = state(database, dataset)
    assert set(map(tuple, labels.values())) == {(cat,)}


def test_undo_of_a_data_set_change(database):
    owner = add_user(database, "a", "owner")
    dataset, (cat, dog, _) = add_dataset(database, owner)
    images = add_images(database, owner, dataset, 2)
    database.write(datasets.update, owner, dataset, new_id(), kind="multi", taggers=2)
    item = {"image": images[0], "add": {str(cat): {}, str(dog): {}}}
    database.write(answers.write, owner, dataset, new_id(), [item])
    assert state(database, dataset)[0][0].status == "in_progress"
    with pytest.raises((Conflict, Refused), match="several classes"):
        database.write(datasets.update, owner, dataset, new_id(), kind="single")
    database.write(undo.undo, owner, dataset, new_id())
    database.write(undo.undo, owner, dataset, new_id())
    with database.read() as c:
        assert datasets.get(c, dataset).kind == "single" and datasets.get(c, dataset).taggers == 1


def test_planted_differences_are_found(database):
    owner = add_user(database, "a", "owner")
    dataset, (cat, dog, _) = add_dataset(database, owner)
    images = add_images(database, owner, dataset, 2)
    database.write(bulk.apply, owner, dataset, new_id(), images, {"tag": [cat]})
    plants = (
        schema.label.update().values(class_id=dog),
        schema.tag.delete(),
        schema.answer.update().values(tags={str(dog): {}}),
        schema.image.update().values(status="new"),
        schema.image.update().values(split="other"),
        schema.klass.update().values(name="x"),
    )
    for plant in plants:
        with database.engine.connect() as c:
            with c.begin() as transaction:
                c.execute(plant)
                assert check(c), plant
                transaction.rollback()
            assert check(c) == []
