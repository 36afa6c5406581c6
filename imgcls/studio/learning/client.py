"""Methods of the studio's client: versions, training, suggestions, export and import."""

import os
import pathlib
import time
import uuid
from collections.abc import Callable
from typing import Any

from imgcls.core.errors import TrainingError


class LearningMethods:
    """Part of `imgcls.studio.client.Client`, which has the connection."""

    def request(self, method: str, path: str, **options: Any) -> Any:
        """See `imgcls.studio.client.Client.request`."""
        raise NotImplementedError

    def get(self, path: str, **query: Any) -> Any:
        """See `imgcls.studio.client.Client.get`."""
        raise NotImplementedError

    def write(self, method: str, path: str, **body: Any) -> Any:
        """See `imgcls.studio.client.Client.write`."""
        raise NotImplementedError

    def versions(self, dataset: int) -> list[dict[str, Any]]:
        """The versions of a data set, newest first."""
        return self.get(f"/datasets/{dataset}/versions")

    def freeze(self, dataset: int, name: str | None = None) -> dict[str, Any]:
        """Freezes what is tagged: `{"id", "name", "digest", "count", "unchanged"}`."""
        return self.write("POST", f"/datasets/{dataset}/versions", name=name)

    def recipes(self) -> dict[str, Any]:
        """The recipes with their arguments, and the keys of the config with their defaults."""
        return self.get("/recipes")

    def train(
        self,
        dataset: int,
        recipe: str,
        arguments: dict[str, Any] | None = None,
        config: dict[str, Any] | str | None = None,
        version: int | None = None,
    ) -> int:
        """Starts to train; returns the number of the run.

        Args:
          dataset: the data set.
          recipe: name of a recipe.
          arguments: of the recipe.
          config: keys of the config, `{"optim.learning_rate": 0.1}` or a line of text each.
          version: what is trained on; None freezes what is tagged now.
        """
        body = {"version": version, "recipe": recipe}
        body |= {"arguments": arguments or {}, "config": config or {}}
        return self.write("POST", f"/datasets/{dataset}/runs", **body)["id"]

    def runs(self, dataset: int) -> list[dict[str, Any]]:
        """The runs of a data set, newest first."""
        return self.get(f"/datasets/{dataset}/runs")

    def run(self, run: int) -> dict[str, Any]:
        """State and progress of a run."""
        return self.get(f"/runs/{run}")

    def wait(
        self, run: int, show: Callable[[dict[str, Any]], None] | None = None, every: float = 0.5
    ) -> dict[str, Any]:
        """Waits until a run ends; returns it.

        Args:
          run: number of the run.
          show: called with the run whenever its state or step changes.
          every: seconds between two looks.

        Raises:
          TrainingError: it failed.
        """
        shown = None
        while True:
            found = self.run(run)
            if show is not None and (found["state"], found["step"]) != shown:
                shown = found["state"], found["step"]
                show(found)
            if found["state"] == "failed":
                raise TrainingError(f"run {run} failed: {found['error']}")
            if found["state"] in ("done", "stopped"):
                return found
            time.sleep(every)

    def stop(self, run: int) -> dict[str, Any]:
        """Stops a run, which saves its state."""
        return self.write("POST", f"/runs/{run}/stop")

    def resume(self, run: int) -> dict[str, Any]:
        """Continues a run that was stopped or failed."""
        return self.write("POST", f"/runs/{run}/continue")

    def metrics(self, run: int, since: int = -1) -> list[dict[str, Any]]:
        """The metrics of a run after a step."""
        return self.get(f"/runs/{run}/metrics", since=since)["rows"]

    def log(self, run: int, since: int = 0) -> dict[str, Any]:
        """The log of a run from a byte on: `{"text", "next"}`."""
        return self.get(f"/runs/{run}/log", since=since)

    def report(self, run: int) -> str:
        """The page of a run's report, or of an audit."""
        return self.get(f"/runs/{run}/report").decode()

    def confusion(self, run: int) -> dict[str, Any]:
        """The confusion matrix, with the images of each cell."""
        return self.get(f"/runs/{run}/confusion")

    def mistakes(self, run: int) -> list[dict[str, Any]]:
        """The images that a model got wrong, the most certain mistakes first."""
        return self.get(f"/runs/{run}/mistakes")["mistakes"]

    def use(self, run: int) -> dict[str, Any]:
        """Makes the model of a run that of its data set."""
        return self.write("POST", f"/runs/{run}/use")

    def suggest(self, dataset: int, run: int, **filter: Any) -> int:
        """Predicts the images that a filter selects; returns the number of that run."""
        body = {"run": run, "filter": filter or None}
        return self.write("POST", f"/datasets/{dataset}/suggest", **body)["id"]

    def features(self, dataset: int, run: int | None = None) -> int:
        """Computes features for the orders `similar` and `diverse`; returns the run."""
        return self.write("POST", f"/datasets/{dataset}/features", run=run)["id"]

    def audit(self, dataset: int, version: int | None = None, run: int | None = None) -> int:
        """Audits a version; returns the run. What it finds becomes filters."""
        body = {"version": version, "run": run}
        return self.write("POST", f"/datasets/{dataset}/audit", **body)["id"]

    def export(
        self, version: int, format: str, file: str | os.PathLike, images: bool = True
    ) -> pathlib.Path:
        """Writes a zip of a version in a format; returns its path."""
        path = pathlib.Path(file)
        path.write_bytes(self.get(f"/versions/{version}/export", format=format, images=images))
        return path

    def import_file(
        self, dataset: int, file: str | os.PathLike, splits: bool = False
    ) -> dict[str, Any]:
        """Imports labels, or a zip of labels and images; returns what was brought."""
        path = pathlib.Path(file)
        with open(path, "rb") as opened:
            return self.request(
                "POST",
                f"/datasets/{dataset}/import",
                params={"request_id": str(uuid.uuid4()), "splits": splits},
                files={"file": (path.name, opened.read())},
            )
