"""The same on PostgreSQL: undo against its model, filters against loops, classes."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from imgcls.studio.store import schema
from imgcls.studio.store.connect import Database
from tests.studio.store import test_classes, test_filters, test_undo
from tests.studio.store.test_filters import world  # noqa: F401


@pytest.fixture
def database(new_postgres):
    """An empty database of PostgreSQL."""
    database = Database(new_postgres())
    yield database
    database.close()


def test_migrations_make_the_tables_of_the_schema(database):
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


@pytest.mark.parametrize("seed", [100, 101])
def test_random_actions(database, seed):
    test_undo.test_random_actions_of_several_people(database, seed)


def test_planted_differences(database):
    test_undo.test_planted_differences_are_found(database)


def test_filters_and_orders(database, world):  # noqa: F811
    test_filters.test_filters_select_what_a_loop_selects(database, world)
    test_filters.test_orders(database, world)


def test_deleted_classes(database):
    owner = test_classes.add_user(database, "ann", "owner")
    test_classes.test_a_deleted_class_comes_back_with_attributes_and_text(database, owner)
