"""A folder that save_pretrained wrote: exported with its own inputs, refused in a sentence where it is not whole."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

from exporters import provenance  # noqa: E402
from runtimes.base import run  # noqa: E402
from runtimes.ort import OrtRuntime  # noqa: E402
from toolchain.bisection import bisecting  # noqa: E402
from toolchain.conversion import exporting  # noqa: E402
from toolchain.conversion.target import Target  # noqa: E402
from toolchain.errors import BadUsage  # noqa: E402
from toolchain.inputs import huggingface, huggingface_inputs, models  # noqa: E402
from toolchain.progress import SILENT  # noqa: E402

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {"input_ids": (3, 16), "attention_mask": (3, 16)}
T5 = {"d_model": 16, "d_ff": 16, "num_layers": 1, "vocab_size": 9}
WHISPER = {"d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "max_source_positions": 20}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.BertConfig(**TINY, vocab_size=50, max_position_embeddings=64, num_labels=3)
    folder = tmp_path_factory.mktemp("saved") / "bert"
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "bert"))


def test_the_file_takes_what_a_tokenizer_gives_at_any_length(saved: Path, tmp_path: Path) -> None:
    made = exporting.export_named(
        str(saved), tmp_path / "m.onnx", arguments={"num_labels": 3}, weights=None, input_specs=(), input_data=None,
        output_names=(), target=Target(), progress=SILENT,
    )  # fmt: skip
    model = onnx.load(made.artifact.path)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    text = ["batch", "sequence"]
    assert shapes == {"input_ids": text, "attention_mask": text, "token_type_ids": text, "logits": ["batch", 3]}
    facts = provenance.read(model)
    assert (facts["model_type"], facts["architecture"]) == ("bert", "BertForSequenceClassification")
    assert len(facts["config_sha256"]) == 64
    again = transformers.BertForSequenceClassification.from_pretrained(saved).eval()
    feeds = {name: np.array([[5, 9, 2, 7, 30], [1, 2, 3, 0, 0]]) for name in ("input_ids",)}
    feeds |= {"attention_mask": np.array([[1] * 5, [1, 1, 1, 0, 0]]), "token_type_ids": np.zeros((2, 5), np.int64)}
    with torch.no_grad():
        right = again(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits.numpy()
    with OrtRuntime(made.artifact.path) as runtime:
        assert np.allclose(run(runtime, feeds)["logits"], right, rtol=1e-4, atol=1e-6)


def loaded(folder: Path, **arguments: Any) -> Any:
    return models.named(str(folder), arguments).module


def edit(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        written = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(written | changes))

    return change


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_bytes(content))


def void(_: object) -> None:
    return


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def fetched_by_timm(place: str | None, **model_args: Any) -> Callable[[Path], None]:
    written = {"model_type": "timm_wrapper", "architecture": "resnet18", "model_args": model_args}
    return edit(**({place: written} if place else written))


def indexed(names: dict[str, str]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))

    return change


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


class Code:
    def __reduce__(self) -> Any:
        return print, ("code has run",)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Code()}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (remove("config.json"), "has no config.json"),
        (adapter, "holds an adapter"),
        (write("adapter_config.json", b'{"base_model_name_or_path": "."}'), "holds an adapter"),
        (fetched_by_timm(None, checkpoint_path="x.bin"), "'checkpoint_path' in model_args of .*config.json"),
        (fetched_by_timm("vision_config", pretrained=True), "'pretrained' in model_args of .*config.json"),
        (write("config.json", b'{"model_type": '), "is no JSON"),
        (write("config.json", b"[]"), "names no model_type"),
        (edit(model_type="berd"), "knows no model_type 'berd'"),
        (edit(auto_map={"AutoModel": "code.Model"}), "auto_map in config.json"),
        (edit(inner={"auto_map": {"AutoModel": "hub/code--code.Model"}}), "auto_map in config.json"),
        (edit(quantization_config={"quant_method": "gptq"}), "are quantized"),
        (edit(architectures=["BertForEverything"]), "'BertForEverything', which"),
        (edit(architectures=["Trainer"]), "'Trainer', which"),
        (edit(architectures=["GPT2LMHeadModel"]), "GPT2LMHeadModel is of another"),
        (edit(hidden_size="wide"), "does not fit 'bert'"),
        (edit(hidden_size=12), "cannot be loaded"),
        (edit(num_hidden_layers=2), r"lacks weights of .*: bert.encoder.layer.1.attention.*and \d+ more"),
        (edit(architectures=["BertForMaskedLM"]), r"lacks weights of BertForMaskedLM: cls\.predictions"),
        (remove("model.safetensors"), "has no model.safetensors"),
        (write("model.safetensors", b""), "cannot be loaded"),
        (truncated, "cannot be loaded"),
        (pickled, "cannot be loaded"),
        (indexed({"a": "part.safetensors", "b": "part2.safetensors"}), "lacks part2.safetensors of its weights"),
        (indexed({"a": "../part.safetensors"}), "is no file of this folder"),
        (write("model.safetensors.index.json", b"{}"), ""),
    ],
)
def test_what_is_not_whole_is_refused_in_a_sentence(
    change: Callable[[Path], None], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder)
    if not sentence:  # the whole file is taken first
        assert models.named(str(folder), {}).facts["model_type"] == "bert"
        return
    with pytest.raises(BadUsage, match=sentence) as raised:
        models.named(str(folder), {})
    assert "\n" not in raised.value.what
    assert capsys.readouterr() == ("", "")


def test_an_argument_is_a_field_of_the_configuration(saved: Path) -> None:
    assert loaded(saved, output_hidden_states=True).config.output_hidden_states
    with pytest.raises(BadUsage, match="has no 'depth'"):
        models.named(str(saved), {"depth": 3})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("hidden_size", "x", "--arg hidden_size does not fit 'bert'"),
        ("num_labels", "x", "--arg num_labels does not fit 'bert'"),
        ("return_dict", False, "'return_dict' cannot be set"),
        ("_attn_implementation", "some/kernel", "'_attn_implementation' cannot be set"),
        ("experts_implementation", "eager", "'experts_implementation' cannot be set"),
        ("model_args", {"cache_dir": "."}, "'cache_dir' in model_args of --arg"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(name: str, value: Any, sentence: str, saved: Path) -> None:
    with pytest.raises(BadUsage, match=sentence) as raised:
        models.named(str(saved), {name: value})
    assert "\n" not in raised.value.what


def test_weights_in_pieces_and_plain_pickled_ones_are_read(folder: Path) -> None:
    whole = loaded(folder)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="4KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    pieces = loaded(folder)
    for path in folder.glob("model*"):
        path.unlink()
    torch.save(whole.state_dict(), folder / "pytorch_model.bin")
    plain = loaded(folder)
    for name, value in whole.state_dict().items():
        assert torch.equal(pieces.state_dict()[name], value)
        assert torch.equal(plain.state_dict()[name], value)


def test_weights_that_nobody_reads_are_said(folder: Path) -> None:
    edit(architectures=["BertModel"])(folder)
    (folder / "tokenizer.json").write_text("{}")
    assert models.named(str(folder), {}).notes == (
        f"BertModel does not use these weights of {folder}: classifier.bias, classifier.weight.",
    )


def test_half_precision_is_loaded_in_fp32(folder: Path) -> None:
    loaded(folder).half().save_pretrained(folder)
    assert {value.dtype for value in loaded(folder).parameters()} == {torch.float32}


def test_the_network_is_shut_while_a_folder_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    make = huggingface_inputs.proposed

    def watched(module: Any, folder: Path) -> Any:
        seen.append(transformers.utils.hub.is_offline_mode())
        return make(module, folder)

    monkeypatch.setattr(huggingface_inputs, "proposed", watched)
    huggingface.load(saved, {})
    assert seen == [True]


def test_the_network_is_shut_while_a_folders_model_runs(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the export is proven, and in a bisection."""
    seen = []
    pooled = transformers.models.bert.modeling_bert.BertPooler.forward

    def watched(module: Any, hidden: torch.Tensor) -> Any:
        seen.append(transformers.utils.hub.is_offline_mode())
        return pooled(module, hidden)

    monkeypatch.setattr(transformers.models.bert.modeling_bert.BertPooler, "forward", watched)
    exporting.export_named(str(saved), tmp_path / "m.onnx")
    exported = len(seen)
    bisecting.bisect_named(
        str(saved), tmp_path / "m.repro.py", arguments={}, weights=None, input_specs=(), input_data=None,
        target=Target(), progress=SILENT,
    )  # fmt: skip
    assert len(seen) > exported > 0
    assert all(seen)
    assert not transformers.utils.hub.is_offline_mode()


def of_kind(kind: str, architecture: str, **fields: Any) -> Any:
    return getattr(transformers, architecture)(transformers.CONFIG_MAPPING[kind](**fields))


@pytest.mark.parametrize(
    ("kind", "architecture", "fields", "shapes", "axes"),
    [
        ("roberta", "RobertaModel", {**TINY, "vocab_size": 9, "type_vocab_size": 1}, TEXT, {"batch", "sequence"}),
        ("t5", "T5ForConditionalGeneration", T5, {**TEXT, "decoder_input_ids": (3, 10)},
         {"batch", "sequence", "decoder_sequence"}),
        ("vit", "ViTModel", {**TINY, "image_size": 32}, {"pixel_values": (3, 3, 32, 32)}, {"batch"}),
        ("resnet", "ResNetModel", {"embedding_size": 8, "hidden_sizes": [8], "depths": [1]},
         {"pixel_values": (3, 3, 64, 48)}, {"batch"}),
        ("wav2vec2", "Wav2Vec2Model", {**TINY, "num_conv_pos_embedding_groups": 2}, {"input_values": (3, 16000)},
         {"batch", "samples"}),
        ("whisper", "WhisperForConditionalGeneration", WHISPER,
         {"input_features": (3, 80, 40), "decoder_input_ids": (3, 10)}, {"batch", "decoder_sequence"}),
    ],
)  # fmt: skip
def test_inputs_follow_the_configuration(
    kind: str, architecture: str, fields: dict[str, Any], shapes: dict[str, tuple[int, ...]], axes: set[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 64, "width": 48}}')
    module = of_kind(kind, architecture, **fields).eval()
    module.config.use_cache = False
    found = huggingface_inputs.proposed(module, tmp_path)
    assert found is not None
    assert {name: array.shape for name, array in found.arrays.items()} == shapes
    assert {word for words in found.axes.values() for word in words.values()} == axes
    with torch.no_grad():
        module(**{name: torch.from_numpy(array) for name, array in found.arrays.items()})


def test_each_of_several_ends_is_kept_out_of_the_text(tmp_path: Path) -> None:
    ends = [2, 3]
    module = of_kind("llama", "LlamaForCausalLM", **TINY, vocab_size=6, num_key_value_heads=1, eos_token_id=ends)
    module.save_pretrained(tmp_path / "ends")
    found = huggingface_inputs.proposed(loaded(tmp_path / "ends"), tmp_path)
    assert found is not None
    ids = found.arrays["input_ids"]
    assert (ids == 2).sum() == len(ids)  # one in each row, its end
    assert not (ids == 3).any()


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("canine", "CanineModel"),  # has no vocabulary
        ("fastspeech2_conformer_with_hifigan", "FastSpeech2ConformerWithHifiGan"),  # has it further in
    ],
)
def test_of_a_size_that_is_not_known_nothing_is_proposed(kind: str, architecture: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        module = of_kind(kind, architecture)
    assert huggingface_inputs.proposed(module, tmp_path) is None


def test_what_is_not_known_is_asked_for(tmp_path: Path) -> None:
    sizes = {"num_hash_functions": 2, "num_hash_buckets": 8, "max_position_embeddings": 64}
    of_kind("canine", "CanineModel", **TINY, **sizes).save_pretrained(tmp_path / "canine")
    made = models.named(str(tmp_path / "canine"), {})
    with pytest.raises(BadUsage, match=r"not known what .* takes"):
        models.example_of(made, [], None)
    assert set(models.example_of(made, ["input_ids=int64[1,16]<50"], None).takes) == {"input_ids"}


def test_a_user_names_other_inputs(saved: Path) -> None:
    made = models.named(str(saved), {})
    example = models.example_of(made, ["input_ids=int64[batch,seq]<50"], None)
    assert set(example.takes) == {"input_ids"}


@pytest.mark.slow
def test_experts_take_the_patches_of_transformers_and_are_proven_all_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = of_kind(
        "mixtral", "MixtralForCausalLM", **TINY, vocab_size=50, num_key_value_heads=1, num_local_experts=3, head_dim=8
    )
    module.save_pretrained(tmp_path / "experts")
    where = torch.where
    made = exporting.export_named(
        str(tmp_path / "experts"), tmp_path / "m.onnx", arguments={}, weights=None, input_specs=(), input_data=None,
        output_names=(), target=Target(), progress=SILENT,
    )  # fmt: skip
    assert "It was captured by transformers' exporter." in made.artifact.notes
    assert torch.where is where  # what it patches is put back
    ids = np.random.default_rng(1).integers(3, 50, (5, 21))
    with torch.no_grad():
        right = module.eval()(torch.from_numpy(ids), torch.ones(5, 21, dtype=torch.int64)).logits.numpy()
    with OrtRuntime(made.artifact.path) as runtime:
        got = run(runtime, {"input_ids": ids, "attention_mask": np.ones((5, 21), np.int64)})
    assert np.allclose(got["logits"], right, rtol=1e-4, atol=1e-5)


def test_a_decoder_takes_and_gives_its_past_where_it_is_asked_to(saved: Path, tmp_path: Path) -> None:
    module = of_kind("llama", "LlamaForCausalLM", **TINY, vocab_size=50, num_key_value_heads=1).eval()
    module.save_pretrained(tmp_path / "decoder")
    made = models.named(str(tmp_path / "decoder"), {"use_cache": True})
    assert made.axes is not None and made.examples is not None
    assert made.axes["past_key_values.0.value"] == {0: "batch", 2: "past"}
    whole = torch.randint(3, 50, (2, 9))
    with torch.no_grad():
        right = module(whole).logits[:, 6:]
        kept = module(whole[:, :6], use_cache=True)
        before = next(value for value in kept.values() if isinstance(value, transformers.Cache)).layers
        found = made.module(whole[:, 6:], [{"key": layer.keys, "value": layer.values} for layer in before])
    assert torch.allclose(found["logits"], right, atol=1e-6)
    assert found["present"][0]["key"].shape == (2, 1, 9, 8)
    with pytest.raises(BadUsage, match="keeps of the past is not"):
        models.named(str(saved), {"use_cache": True})


def test_numbers_that_json_lacks_are_read_as_transformers_writes_them(folder: Path) -> None:
    edit(layer_norm_eps={"__float__": "Infinity"}, classifier_dropout={"__float__": "later"})(folder)
    written = json.loads((folder / "config.json").read_text())
    read = huggingface._with_floats(written)
    assert read["layer_norm_eps"] == float("inf")
    assert read["classifier_dropout"] == {"__float__": "later"}


def test_a_spectrogram_has_as_many_frames_as_the_encoder_has_places_for(tmp_path: Path) -> None:
    config = transformers.Speech2TextConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=50, max_source_positions=20, max_target_positions=30,
        input_feat_per_channel=8, num_conv_layers=2, conv_channels=8,
    )  # fmt: skip
    transformers.Speech2TextForConditionalGeneration(config).save_pretrained(tmp_path / "speech")
    proposed = huggingface.load(tmp_path / "speech", {}).proposed
    assert proposed is not None
    assert proposed.limits["frames"] == 80
    assert proposed.at({"batch": 2, "frames": 80, "decoder_sequence": 5})["input_features"].shape == (2, 80, 8)
