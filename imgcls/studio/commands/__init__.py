"""Subcommands of `imgcls studio`."""
