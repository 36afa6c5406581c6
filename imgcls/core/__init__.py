"""What every other part uses: the config, errors, logging and storage."""
