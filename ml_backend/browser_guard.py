"""Who may not use a browser to reach us: web pages of others.

A browser on a machine that reaches this server sends requests for any page that is open in it. Two headers give such
requests away, and no page can forge them:

- ``Origin`` names the page's server, with every request that is more than a look; it must be ours.
- ``Host`` is the name that the browser looked up. A page whose own name leads to our address (DNS rebinding) is of our
  origin to the browser, but not by name. Addresses in figures cannot be turned round so, nor can names that nobody can
  register: those without a dot, and under the top-level names that are reserved for private use.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from bridge.errors import DataError

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_PRIVATE = ("internal", "local", "localhost", "test", "home.arpa")


class BrowserGuard:
    """Tells requests of foreign web pages.

    Args:
        names: host names under which we may be called besides those that nobody can register; None: under any.
    """

    def __init__(self, names: Iterable[str] | None) -> None:
        self._names = None if names is None else frozenset(_bare(name) for name in names)

    def refusal(self, method: str, hosts: list[str], origin: str | None) -> DataError | None:
        """Why a request is not answered; None where it is.

        Args:
            hosts: every ``Host`` header.
            origin: the ``Origin`` header; None without one.
        """
        if self._names is not None and not all(self._is_ours(host) for host in hosts):
            return DataError(
                f"this server is called {', '.join(hosts)[:200]!r}",
                expected="an address in figures, or a name that it was told",
                todo="If this name is meant, set LABELBRIDGE_BACKEND_NAMES to it, or set a password",
            )
        if origin is not None and method not in _LOOKING and urlsplit(origin).netloc not in hosts:
            return DataError(
                f"the request comes from a web page of {origin[:200]!r}",
                expected="a request of a program, or of a page of this server",
                todo="Call from a program",
            )
        return None

    def _is_ours(self, host: str) -> bool:
        assert self._names is not None
        name = _bare(host)
        return (
            "." not in name
            or name in self._names
            or any(name.endswith(f".{private}") for private in _PRIVATE)
            or _is_address(name)
        )


def _bare(host: str) -> str:
    """A ``Host`` header without its port, in lower case and without the dot at its end."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
