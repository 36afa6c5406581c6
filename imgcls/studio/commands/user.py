"""Add, list, change and revoke users: user add NAME --home=DIR --role=tagger.

A home without users is open to everybody at this machine. From its first user on, everybody needs a
token. It works while the home is served.
"""

import argparse

from imgcls.core import log
from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.studio.home import Home
from imgcls.studio.store import users
from imgcls.studio.store.connect import Database

ACTIONS = ("add", "list", "role", "token", "revoke", "readmit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add = parser.add_argument
    add("action", choices=ACTIONS, help="token: give a new one; role: change it")
    add("name", nargs="?", help="the user's name")
    add("--home", required=True, metavar="DIR", help="the directory with everything of this studio")
    add("--database", default="", metavar="URL", help="postgresql://... instead of SQLite in DIR")
    add("--role", choices=users.ROLES, help="of add and role; tagger if left out of add")


def run(args: argparse.Namespace) -> int:
    """Carries out an action; prints a new token, once."""
    if (args.name is None) != (args.action == "list"):
        what = "takes no name" if args.name else "needs a name"
        raise ConfigError(f"user {args.action} {what}; see imgcls studio user --help")
    if args.action == "role" and args.role is None:
        raise ConfigError(f"user role needs one; add --role={'|'.join(users.ROLES)}")
    database = Database(Home(args.home, args.database).database_url)
    try:
        users.People(database)  # "local" keeps the first id.
        return _act(database, args)
    finally:
        database.close()


def _act(database: Database, args: argparse.Namespace) -> int:
    if args.action == "add":
        _, token = database.write(users.add_user, args.name, args.role or "tagger")
        log.result(token)
        return 0
    with database.read() as connection:
        everybody = users.list_users(connection)
    if args.action == "list":
        for user in everybody:
            log.result("\t".join([user.name, user.role] + ["revoked"] * (not user.active)))
        return 0
    found = {user.name: user.id for user in everybody}
    if args.name not in found:
        raise ConfigError(f"there is no user {args.name!r}{did_you_mean(args.name, found)}")
    number = found[args.name]
    if args.action == "token":
        log.result(database.write(users.renew_token, number))
    elif args.action == "role":
        database.write(users.change_user, number, role=args.role)
    else:
        database.write(users.change_user, number, active=args.action == "readmit")
    return 0
