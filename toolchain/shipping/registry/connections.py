"""HTTP: one request, one answer, over connections that are kept; certificates and proxies as the system has them."""

import base64
import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import HTTPResponse
from urllib import request as urls
from urllib.parse import SplitResult, unquote, urlsplit

from toolchain.errors import NotAvailable
from toolchain.legible import MOST_IN_CELL, legible

Content = Callable[[], Iterable[bytes]]
_TIMEOUT_S = 60.0
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
"""How a connection looks that was kept, and that the other side has closed meanwhile."""
_IN_THE_CLEAR = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
"""What OpenSSL calls an answer that is not TLS, by its version."""


class Broken(NotAvailable):
    """There was no answer, or none to its end: another try may get one."""


class NoTls(NotAvailable):
    """What answers does not speak TLS."""


def parts_of(url: str) -> SplitResult:
    """What ``url``, which somebody else has named, is made of; NotAvailable for what is no place to ask."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isascii()
    except ValueError:  # brackets, ports
        fine = False
    if not fine or not url.isprintable() or " " in url:
        shown = legible(url, most=MOST_IN_CELL)
        raise NotAvailable(f"We are led to '{shown}', which is no place to ask.", "Tell who keeps the registry.")
    return parts


class Connections:
    """Close them when done. ``SSL_CERT_FILE`` names authorities that the system does not know, as it does elsewhere."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], http.client.HTTPConnection] = {}
        self._tls = ssl.create_default_context()
        self._proxies = urls.getproxies()

    def close(self) -> None:
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    @contextlib.contextmanager
    def answer(
        self, method: str, url: str, headers: Mapping[str, str], content: Content | None = None
    ) -> Iterator[HTTPResponse]:
        """What ``url`` answers, whatever its status; redirects are not followed. Raises Broken, also while it is read.

        ``content`` gives what is sent, from its beginning each time; ``headers`` tell its length.
        """
        parts = parts_of(url)
        with _explained(parts.netloc):
            connection, response = self._asked(parts, method, headers, content)
            finished = False
            try:
                yield response
                finished = response.isclosed()  # read to its end: the next request may go the same way
            finally:
                if finished:
                    self._kept[parts.scheme, parts.netloc] = connection
                else:
                    response.close()
                    connection.close()

    def _asked(
        self, parts: SplitResult, method: str, headers: Mapping[str, str], content: Content | None
    ) -> tuple[http.client.HTTPConnection, HTTPResponse]:
        kept = self._kept.pop((parts.scheme, parts.netloc), None)
        if kept is not None:
            # what carries content may have arrived in part: that is for the caller to find out
            with contextlib.suppress(*(_STALE if content is None else ())):
                return kept, _asked(kept, method, self._place(parts), headers, content)
        opened = self._opened(parts)
        return opened, _asked(opened, method, self._place(parts), headers, content)

    def _opened(self, parts: SplitResult) -> http.client.HTTPConnection:
        proxy, port = self._proxy(parts), parts.port
        host, secure = parts.hostname or "", parts.scheme == "https"
        if proxy is not None:
            through, port_of_proxy = proxy.hostname or "", proxy.port
            if not secure:
                return http.client.HTTPConnection(through, port_of_proxy, timeout=_TIMEOUT_S)
            tunnel = http.client.HTTPSConnection(through, port_of_proxy, timeout=_TIMEOUT_S, context=self._tls)
            tunnel.set_tunnel(host, port, headers=_known_to(proxy))
            return tunnel
        if secure:
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        named = self._proxies.get(parts.scheme)
        if not named or urls.proxy_bypass(parts.hostname or ""):
            return None
        return urlsplit(named if "://" in named else f"http://{named}")

    def _place(self, parts: SplitResult) -> str:
        """What stands in the request's first line: all of it for a proxy that is asked in the clear."""
        if parts.scheme == "http" and self._proxy(parts) is not None:
            return parts._replace(fragment="").geturl()
        return parts._replace(scheme="", netloc="", fragment="").geturl() or "/"


def _asked(
    connection: http.client.HTTPConnection,
    method: str,
    place: str,
    headers: Mapping[str, str],
    content: Content | None,
) -> HTTPResponse:
    try:
        connection.request(method, place, body=None if content is None else content(), headers=dict(headers))
        return connection.getresponse()
    except BaseException:
        connection.close()
        raise


def _known_to(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    named = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(named.encode()).decode()}"}


@contextlib.contextmanager
def _explained(host: str) -> Iterator[None]:
    """What can go wrong on the way, as errors of ours."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        what = f"The certificate of {host} is not to be trusted: {error.verify_message}."
        raise NotAvailable(what, "Name the file of its authority in SSL_CERT_FILE, if you trust that one.") from error
    except ssl.SSLError as error:
        if error.reason in _IN_THE_CLEAR:
            raise NoTls(f"{host} does not speak TLS.", "Give --plain-http if it is meant to be so.") from error
        raise Broken(
            f"{host} broke off: {error.reason or error}.", "Look whether it runs, then do it again."
        ) from error
    except socket.gaierror as error:
        raise NotAvailable(f"There is no {host} to be found.", "Look at the name, and at the network.") from error
    except TimeoutError as error:
        raise Broken(f"{host} does not answer.", "Look whether it runs, and at the network.") from error
    except (http.client.HTTPException, ConnectionError) as error:
        refused = isinstance(error, ConnectionRefusedError)
        what = "cannot be reached: nothing answers there" if refused else "broke off"
        raise Broken(f"{host} {what}.", "Look whether it runs, then do it again.") from error
