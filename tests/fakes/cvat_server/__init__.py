"""A CVAT server in memory, over real HTTP: as much of its REST API as the bridge uses, with its traps.

Every behaviour names the fact that it comes from in ``facts/cvat.md``; what the facts leave open is marked.
"""

from fakes.cvat_server.calls import Call
from fakes.cvat_server.server import FakeCvat

__all__ = ["Call", "FakeCvat"]
