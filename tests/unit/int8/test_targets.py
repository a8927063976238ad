import pytest

from exporters.errors import BadOption
from exporters.int8.targets import TARGETS, format_for, named


@pytest.mark.parametrize(
    ("architecture", "isa", "expected"),
    [
        ("x86_64", {"avx2", "avx512_vnni"}, ("uint8", "int8", False)),
        ("x86_64", {"avx2", "avx_vnni"}, ("uint8", "int8", False)),
        ("x86_64", {"avx2"}, ("uint8", "int8", True)),
        ("AMD64", set(), ("uint8", "int8", True)),
        ("aarch64", {"asimddp"}, ("int8", "int8", False)),
        ("arm64", set(), ("int8", "int8", False)),
        ("x86_64", {"avx2", "avx512_vnni", "amx_int8"}, ("uint8", "int8", False)),
    ],
)
def test_the_format_fits_the_cpu(architecture: str, isa: set[str], expected: tuple[str, str, bool]) -> None:
    chosen = format_for(architecture=architecture, isa=isa)
    assert (chosen.activation, chosen.weight, chosen.reduce_range) == expected
    assert chosen.per_channel
    assert chosen.reason in str(chosen)


def test_reduced_weights_never_saturate_a_pair_of_products() -> None:
    """Without VNNI two products of uint8 and int8 are added in 16 bits; 7-bit weights reach 64."""
    assert TARGETS["x86-avx2"].reduce_range
    assert 2 * 255 * 64 <= 2**15 - 1 < 2 * 255 * 127


def test_an_unknown_target_is_said_with_the_known() -> None:
    with pytest.raises(BadOption, match="no target 'toaster'"):
        named("toaster")
