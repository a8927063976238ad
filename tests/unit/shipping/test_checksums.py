"""SHA256SUMS is what sha256sum writes and reads, and says which files differ."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.shipping import checksums
from toolchain.shipping.faults import Kind, differences
from toolchain.shipping.folder import files_in, sha256_of
from toolchain.shipping.names import why_not
from toolchain.shipping.package import CHECKSUMS

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
NAMES = st.text(min_size=1, max_size=20).filter(lambda name: why_not(name) is None)
SUM = "0" * 64


def test_sha256sum_reads_what_is_written_and_the_other_way(package: Path) -> None:
    digests = {file.name: sha256_of(file) for file in files_in(package) if file.name != CHECKSUMS}
    (package / CHECKSUMS).write_text(checksums.text(digests))
    done = subprocess.run(["sha256sum", "-c", "--strict", CHECKSUMS], cwd=package, check=False)
    assert done.returncode == 0
    for mode in ("--text", "--binary"):
        told = subprocess.run(["sha256sum", mode, *digests], cwd=package, capture_output=True, check=True).stdout
        assert checksums.parsed(told) == digests


@given(st.dictionaries(NAMES, DIGESTS, max_size=5))
def test_it_reads_what_it_writes(digests: dict[str, str]) -> None:
    assert checksums.parsed(checksums.text(digests).encode()) == digests


@given(st.binary(max_size=200) | st.builds(lambda rest: SUM.encode() + b"  " + rest + b"\n", st.binary(max_size=40)))
def test_whatever_is_read_is_a_name_below_the_folder_or_refused(content: bytes) -> None:
    try:
        listed = checksums.parsed(content)
    except ValueError:
        return
    assert all(why_not(name) is None for name in listed)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f"{SUM}  a", "ends within a line"),
        (f"{SUM}  a\n{SUM}  a\n", "'a' twice"),
        (f"{SUM}  a\nnothing\n", "line 2"),
        (f"{SUM.replace('0', 'A')}  a\n", "line 1"),
        (f"{SUM[:-1]}  a\n", "line 1"),
        (f"\\{SUM}  a\\nb\n", "line 1"),  # how sha256sum writes a name of two lines
        (f"{SUM}  ../a\n", "leads out"),
        (f"{SUM}  /etc/passwd\n", "absolute"),
        (f"{SUM}  a\r\n", "printed"),
        (f"{SUM}  a\u2028{SUM}  b\n", "printed"),
        ("\udcff", "UTF-8"),
    ],
)
def test_what_sha256sum_would_read_otherwise_is_refused(content: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checksums.parsed(content.encode(errors="surrogateescape"))


def test_each_difference_is_named() -> None:
    found = differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}, by="it")
    assert [(fault.kind, fault.file) for fault in found] == [
        (Kind.CHANGED, "b"),
        (Kind.MISSING, "c"),
        (Kind.EXTRA, "d"),
    ]
