import pytest

from runtimes import registry
from runtimes.base import TensorSpec, check_feeds
from runtimes.errors import BadFeed, UnknownProvider


def test_an_unknown_provider_lists_the_known() -> None:
    with pytest.raises(UnknownProvider) as caught:
        registry.provider_named("gpu")
    assert "cuda" in caught.value.do


@pytest.mark.parametrize("provider", registry.PROVIDERS.values(), ids=lambda provider: provider.name)
@pytest.mark.parametrize("runtime", registry.RUNTIMES)
def test_availability_is_yes_or_says_why_and_what_to_do(runtime: str, provider: registry.Provider) -> None:
    found = registry.available(runtime, provider)
    assert found or (found.why and found.do)


def test_cpu_is_available_everywhere() -> None:
    assert all(registry.available(runtime, registry.PROVIDERS["cpu"]) for runtime in ("eager", "ort"))


def test_two_wheels_in_one_folder_are_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wheel:
        def __init__(self, name: str) -> None:
            self.metadata = {"Name": name}

    assert not registry.both_wheels_installed()
    wheels = [Wheel("onnxruntime"), Wheel("onnxruntime-gpu")]
    monkeypatch.setattr(registry.importlib.metadata, "distributions", lambda: wheels)
    found = registry.available("ort", registry.PROVIDERS["qnn"])
    assert "overwrite each other" in (found.why or "")
    assert "uninstall" in (found.do or "")


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({"y": "float32(2,3)"}, "takes the inputs"),
        ({}, "takes the inputs"),
        ({"x": "float64(2,3)"}, r"float64\[2, 3\], the model wants float32\[batch, 3\]"),
        ({"x": "float32(2,4)"}, r"float32\[2, 4\]"),
        ({"x": "float32(2,)"}, r"float32\[2\]"),
    ],
)
def test_a_feed_that_does_not_fit_is_described(feed: dict[str, str], message: str) -> None:
    import numpy as np

    arrays = {}
    for name, text in feed.items():
        dtype, _, shape = text.partition("(")
        arrays[name] = np.zeros([int(length) for length in shape.strip("),").split(",")], dtype)
    with pytest.raises(BadFeed, match=message):
        check_feeds([TensorSpec("x", "float32", ("batch", 3))], arrays)
