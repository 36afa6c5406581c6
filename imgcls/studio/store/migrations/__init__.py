"""Migrations of the database, by Alembic: one file of `versions` for each change of the tables."""
