"""Serving a page: on this machine alone unless TLS keeps others from listening, and with a link to come in."""

import ipaddress
import logging
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonosynth.core.errors import WebError

if TYPE_CHECKING:
    from sonosynth.web.app import Access

_PROXY = "127.0.0.1"  # from where forwarded addresses are believed


@dataclass(frozen=True)
class Address:
    """Where a page is served."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0: one that is free
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False  # whether a proxy in front does TLS
    name: str | None = None  # how browsers call the host, where that is not `host`

    def check(self) -> None:
        """Raise WebError where others could listen, or a file is missing."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise WebError("TLS needs both --tls-cert and --tls-key")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise WebError(f"{path} is no file; give the PEM file of the certificate and of its key")
        if not self._is_secure and not _is_loopback(self.host):
            raise WebError(
                f"--host {self.host} can be reached from other machines, and without TLS they could listen: give "
                "--tls-cert and --tls-key, or --behind-proxy where a proxy does TLS"
            )
        if self.behind_proxy and self.name is None:
            raise WebError("--behind-proxy needs --name, the host name that browsers use")

    @property
    def _is_secure(self) -> bool:
        return self.tls_cert is not None or self.behind_proxy

    def access(self, page: str) -> "Access":
        """Return who may ask for what."""
        from sonosynth.web.app import Access

        hosts = {"127.0.0.1", "localhost", "[::1]"} if _is_loopback(self.host) else {_in_url(self.host)}
        hosts |= {self.name.lower()} if self.name else set()
        return Access(page, tuple(sorted(hosts)), self._is_secure)

    def url(self, port: int) -> str:
        """Return the address that browsers use."""
        host = self.name or _in_url(self.host)
        if self.behind_proxy:
            return f"https://{host}"
        return f"{'https' if self.tls_cert else 'http'}://{host}:{port}"


def check_installed() -> None:
    """Raise WebError unless the extra is installed."""
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise WebError(f"pages need {' and '.join(missing)}; run: pip install 'sonosynth[web]'")


def listen(address: Address) -> socket.socket:
    """Return a bound socket. Raises WebError where it cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((address.host, address.port))
    except (OSError, OverflowError) as error:
        found.close()
        why = getattr(error, "strerror", None) or str(error)
        raise WebError(f"{address.host}:{address.port} cannot be used ({why}); choose another --port") from error
    return found


def serve(app: Any, address: Address, bound: socket.socket) -> None:
    """Serve `app` on `bound` until it is interrupted."""
    import uvicorn

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("sonosynth.web").setLevel(logging.INFO)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # its lines have paths, and so keys
        server_header=False,
        proxy_headers=address.behind_proxy,
        forwarded_allow_ips=_PROXY,
        ssl_certfile=address.tls_cert,
        ssl_keyfile=address.tls_key,
        timeout_keep_alive=30,
        limit_concurrency=512,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[bound])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()
