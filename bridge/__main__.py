"""``python -m bridge``: the console command, wherever the environment's scripts are."""

from bridge.cli import main

main()
