"""One module per command, imported when that command is run: `--help` stays quick."""
