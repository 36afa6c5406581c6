"""Small label files, one for each format that is read."""

import json

LABELS = {
    "manifest.csv": "image,label,split,group\na.jpg,cat,train,g\nb.jpg,dog,val,h\n",
    "manifest.tsv": "image\tcat\tdog\tsplit\na.jpg\t1\t0\ttrain\nb.jpg\t0\t1\tval\n",
    "manifest.jsonl": '{"image": "a.jpg", "labels": ["cat"], "x": 1}\n',
    "darwin.json": json.dumps(
        [{"version": "2.0", "item": {"name": "a.jpg", "path": "/"}, "annotations": [
            {"id": "1", "name": "cat", "tag": {}, "attributes": ["x"], "text": {"text": "t"}},
            {"id": "2", "name": "box", "bounding_box": {"x": 1}}]},
         {"item": {"name": "i", "path": "/", "slots": [
            {"slot_name": "0", "type": "image", "source_files": [{"file_name": "a.jpg"}]},
            {"slot_name": "1", "source_files": [{"file_name": "b.jpg"}]}]},
          "annotations": [{"name": "cat", "tag": {}, "slot_names": ["0"]}]}]
    ),
    "labelstudio.json": json.dumps(
        [{"id": 1, "data": {"image": "/data/local-files/?d=a.jpg", "n": 1}, "annotations": [
            {"was_cancelled": False, "result": [
                {"type": "choices", "from_name": "k", "value": {"choices": ["cat"]}}]}]},
         {"id": 2, "data": {"image": "b.jpg"}, "annotations": []}]
    ),
    "labelstudio.JSON": json.dumps(
        [{"id": 1, "image": "http://h/a.jpg", "choice": "cat", "annotator": 1},
         {"id": 2, "image": "b.jpg", "choice": {"choices": ["cat", "dog"]}},
         {"id": 3, "image": "b.jpg", "choice": [{"x": 1, "rectanglelabels": ["cat"]}]}]
    ),
    "coco.json": json.dumps(
        {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg", "d": 1}],
         "annotations": [{"id": 1, "image_id": 1, "category_id": 7}],
         "categories": [{"id": 7, "name": "cat", "supercategory": "pet"},
                        {"id": 8, "name": "pet"}]}
    ),
}  # fmt: skip
