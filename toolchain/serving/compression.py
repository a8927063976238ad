"""Bodies that come packed, unpacked as far as they may be."""

import zlib

from toolchain.serving.refusal import Refusal

ENCODINGS = ("gzip", "deflate")
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


def unpacked(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """What ``body`` holds in one of :data:`ENCODINGS`.

    Raises Refusal for another encoding, for what is not so packed, and for more than ``most_bytes``, of which no more
    are ever held.
    """
    if encoding not in ENCODINGS:
        raise Refusal(415, f"Bodies are read plain, or packed as {' or '.join(ENCODINGS)}.")
    reader = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        content = reader.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise Refusal(400, f"The body is not {encoding}.") from error
    if len(content) > most_bytes:
        raise Refusal(413, f"The body unpacks to more than {most_bytes} bytes, which is the most that is read here.")
    if not reader.eof or reader.unused_data:
        raise Refusal(400, f"The body is not {encoding}, or not all of it.")
    return content
