"""What came packed is unpacked, and no further than it may be."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.serving import compression
from toolchain.serving.refusal import Refusal


@given(content=st.binary(max_size=2_000))
def test_what_was_packed_comes_back(content: bytes) -> None:
    assert compression.unpacked(gzip.compress(content), "gzip", 2_000) == content
    assert compression.unpacked(zlib.compress(content), "deflate", 2_000) == content


def test_a_bomb_is_not_held_in_memory() -> None:
    bomb = gzip.compress(bytes(200_000_000), 1)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            compression.unpacked(bomb, "gzip", 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b"a" * 11), "gzip", 413),
        (b"a" * 9, "gzip", 400),
        (gzip.compress(b"a" * 9)[:-1], "gzip", 400),
        (gzip.compress(b"a") + b"more", "gzip", 400),
        (b"", "gzip", 400),
        (b"a", "br", 415),
        (b"a", "gzip, gzip", 415),
    ],
    ids=["too much", "no gzip", "cut off", "more behind it", "nothing", "another way", "packed twice"],
)
def test_what_is_not_packed_so_is_refused(body: bytes, encoding: str, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        compression.unpacked(body, encoding, 10)
    assert refused.value.status == status
