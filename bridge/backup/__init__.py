"""The data folder in one archive: made while it is in use, and put back.

The archive is a plain tar, so that it cannot unpack to more than its own size. ``home/...`` are files of the data
folder, ``store.db`` is the database, and ``manifest.json``, the last in it, has the SHA-256 of each. Nothing is in it
that a command makes again: the demo with its Label Studio, and locks.
"""
