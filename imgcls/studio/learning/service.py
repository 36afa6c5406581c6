"""The learning part of a server: its supervisor, with what each kind of run needs."""

from typing import Any

from imgcls.studio.events import Events
from imgcls.studio.home import Home
from imgcls.studio.learning import features, findings, models, training
from imgcls.studio.learning.supervisor import Supervisor
from imgcls.studio.store.connect import Database


def create_supervisor(database: Database, home: Home, events: Events) -> Supervisor:
    """Returns the supervisor of a home's runs; `start` it once the server is up."""

    def publish(dataset_id: int, event: dict[str, Any]) -> None:
        events.publish(dataset_id, "run", event)

    return Supervisor(
        database,
        home,
        tasks={
            "train": training.task,
            "suggest": models.suggest_task,
            "features": features.task,
            "audit": findings.task,
        },
        finish={
            "suggest": models.store,
            "features": features.store,
            "audit": findings.store,
        },
        publish=publish,
    )
