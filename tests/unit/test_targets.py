import pytest

from exporters.targets import format_for


@pytest.mark.parametrize(
    ("architecture", "isa", "expected"),
    [
        ("x86_64", {"avx2", "avx512_vnni"}, ("uint8", "int8", False)),
        ("x86_64", {"avx2", "avx_vnni"}, ("uint8", "int8", False)),
        ("x86_64", {"avx2"}, ("uint8", "int8", True)),
        ("AMD64", set(), ("uint8", "int8", True)),
        ("aarch64", {"asimddp"}, ("int8", "int8", False)),
        ("arm64", set(), ("int8", "int8", False)),
    ],
)
def test_the_format_fits_the_cpu(architecture: str, isa: set[str], expected: tuple[str, str, bool]) -> None:
    chosen = format_for(architecture=architecture, isa=isa)
    assert (chosen.activation, chosen.weight, chosen.reduce_range) == expected
    assert chosen.per_channel
    assert chosen.reason in str(chosen)
