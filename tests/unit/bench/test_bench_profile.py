"""The profile of a row: what is summed, what is advised, and how it is drawn."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.node_time import NodeTime, is_compiled, middle_mean, with_shares
from runtimes.ort_profile import Unfused
from toolchain.bench import profile as bench_profile
from toolchain.bench import profile_table
from toolchain.bench.profile import profile_of
from toolchain.bench.record import Candidate, Profile, Row, Setting

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def node(name: str, op_type: str, mean_us: float, **more: object) -> NodeTime:
    facts = {"provider": CPU, "precision": "fp32", **more}
    return NodeTime(name=name, op_type=op_type, mean_us=mean_us, share=0.0, **facts)  # type: ignore[arg-type]


def profiled(
    *nodes: NodeTime, precision: str = "fp32", provider: str = CPU, unfused: tuple[Unfused, ...] = ()
) -> Profile:
    return profile_of(with_shares(nodes), unfused, precision=precision, provider=provider)


def left_over(name: str, op_type: str, share: float) -> Unfused:
    return Unfused(name=name, op_type=op_type, mean_us=1.0, share=share, why="it runs in fp32")


CONVS = (
    node("/stem/Conv", "QLinearConv", 60.0, precision="int8"),
    node("/layer1/0/a_rather_long_name/Conv", "QLinearConv", 31.5, precision="int8"),
    node("/pool", "ReduceMean", 8.5),
)
CAST = node("InsertedPrecisionFreeCast_x", "Cast", 20.0, inserted=True)


@given(st.lists(st.tuples(st.sampled_from(["Conv", "Gemm", "Cast"]), st.floats(0, 1e6)), min_size=1, max_size=20))
def test_operators_and_nodes_share_the_same_whole(pairs: list[tuple[str, float]]) -> None:
    profile = profiled(*(node(str(index), op_type, time) for index, (op_type, time) in enumerate(pairs)))
    assert profile.run_us == pytest.approx(sum(time for _, time in pairs))
    assert sum(profile.op_types.values()) == pytest.approx(1 if profile.run_us else 0)
    for op_type, share in profile.op_types.items():
        assert share == pytest.approx(sum(each.share for each in profile.nodes if each.op_type == op_type))
    assert list(profile.op_types.values()) == sorted(profile.op_types.values(), reverse=True)
    assert [each.name for each in profile.nodes] == [str(index) for index in range(len(pairs))]


@given(st.lists(st.floats(1, 2), min_size=4, max_size=40), st.floats(1e3, 1e6))
def test_one_disturbed_run_does_not_move_a_time(times: list[float], disturbed: float) -> None:
    assert 1 <= middle_mean([*times, disturbed]) <= 2


def test_the_record_goes_through_json() -> None:
    profile = profiled(*CONVS, unfused=(left_over("/pool", "ReduceMean", 0.085),))
    assert json.loads(json.dumps(asdict(profile)))["op_types"] == {"QLinearConv": 0.915, "ReduceMean": 0.085}


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        (profiled(*CONVS, precision="int8-static"), "QLinearConv takes 92% of the time, in int8."),
        (
            profiled(node("a", "Gemm", 2.0), node("b", "Relu", 1.0)),
            "Gemm takes 67% of the time, in fp32; the profiler's own microsecond a node blurs times as short as these.",
        ),
        (
            profiled(*CONVS, precision="int8-static", unfused=(left_over("/pool", "ReduceMean", 0.085),)),
            "1 node runs in float between Q and DQ (/pool); with the Q and DQ around they take 8% of the time:"
            " try `nnx quantize --exclude`.",
        ),
        (
            profiled(*CONVS, unfused=tuple(left_over(name, "Softmax", 0.1) for name in "abcde")),
            "5 nodes run in float between Q and DQ (a, b, c and 2 more); with the Q and DQ around they take 50% of the"
            " time: try `nnx quantize --exclude`.",
        ),
        (
            profiled(*CONVS, unfused=(left_over("c", "FusedConv", 0.3), left_over("q", "QuantizeLinear", 0.1))),
            "1 node runs in float between Q and DQ (c); with the Q and DQ around they take 40% of the time:"
            " try `nnx quantize --target`.",
        ),
        (
            profiled(*CONVS, unfused=(left_over("q", "QuantizeLinear", 0.1),)),
            "1 Q or DQ node inside the graph did not fuse (10% of the time): try another --target of `nnx quantize`.",
        ),
        (
            profiled(CAST, node("g", "Gemm", 60.0), replace(CAST, name="y"), precision="fp16"),
            "fp16 is computed in fp32 on this CPU: 2 Casts were inserted and take 40% of the time, ship fp32 here.",
        ),
        (
            profiled(node("g", "Gemm", 60.0), precision="fp16"),
            "fp16 is computed in fp32 on this CPU: it saves bytes, not time.",
        ),
        (
            profiled(node("g", "Gemm", 60.0, precision="fp16"), precision="fp16"),
            "Gemm takes 100% of the time, in fp16.",
        ),
        (
            profiled(
                node("c", "Conv", 60.0, provider=CUDA), node("Memcpy", "MemcpyToHost", 10.0, provider=CUDA),
                node("s", "NonMaxSuppression", 20.0), node("Memcpy_1", "MemcpyFromHost", 10.0, provider=CUDA),
                provider=CUDA,
            ),
            "1 of 4 nodes ran on cpu with 2 copies between and take 40% of the time: cuda has no kernels for them.",
        ),
        (
            profiled(
                node("c", "QLinearConv", 60.0, precision="int8"), node("g", "Gemm", 10.0, provider=CUDA),
                precision="int8-static", provider=CUDA,
            ),
            "1 of 2 nodes ran on cpu and take 86% of the time: try fp16 there.",
        ),
        (
            profiled(node("c", "Conv", 99.0, provider=CUDA), node("s", "Shape", 1.0), provider=CUDA),
            "Conv takes 99% of the time, in fp32.",
        ),
        (
            profiled(
                node("OpenVINOExecutionProvider_sub_0", "sub", 30.0, provider="OpenVINOExecutionProvider"),
                provider="OpenVINOExecutionProvider",
            ),
            "openvino compiled 100% of the time into subgraphs that no profile shows.",
        ),
        (
            profiled(
                node("Python", "Python", 59.0, provider="cpu", precision=""),
                node("aten::gelu", "aten::gelu", 41.0, provider="cpu", precision=""),
                provider="cpu",
            ),
            "Python between the operators takes 59% of the time: a larger batch or ONNX Runtime spares it.",
        ),
        (profiled(), "The profiler saw no node."),
    ],
)  # fmt: skip
def test_the_advice_is_about_what_costs_most(profile: Profile, sentence: str) -> None:
    assert profile.advice == sentence


def test_copies_and_casts_are_counted() -> None:
    copy = node("Memcpy", "MemcpyToHost", 1.0, provider=CUDA)
    profile = profiled(CAST, copy, node("own", "Cast", 1.0), provider=CUDA)
    assert (profile.copies, profile.casts) == (1, 1)
    assert profile_table.notes(profile)[0] == "2 nodes on cpu, 1 node on cuda, 1 copy between devices, 1 Cast inserted."


def test_a_compiled_subgraph_is_named_after_its_provider() -> None:
    assert is_compiled("OpenVINOExecutionProvider_OpenVINO-EP-subgraph_1_0", "OpenVINOExecutionProvider")
    assert not is_compiled("/stem/Conv", CPU)


def row(profile: Profile | None) -> Row:
    candidate = Candidate(label="int8", runtime="ort", precision="int8-static", model="m", sha256="", size_bytes=1)
    return Row(candidate=candidate, setting=Setting(provider="cpu", batch=1, threads=1), profile=profile)


def test_the_tables_are_the_expected_ones() -> None:
    operators, nodes = profile_table.tables(row(profiled(*CONVS, precision="int8-static")))
    assert operators.title == "int8 on cpu: 100 µs in 3 nodes"
    assert operators.rows == (
        ("QLinearConv", "2", "int8", "91.5", "91.5%"),
        ("ReduceMean", "1", "fp32", "8.5", "8.5%"),
    )
    assert nodes.rows == (
        ("/stem/Conv", "QLinearConv", "int8", "cpu", "60.0", "60.0%"),
        ("…/0/a_rather_long_name/Conv", "QLinearConv", "int8", "cpu", "31.5", "31.5%"),
        ("/pool", "ReduceMean", "fp32", "cpu", "8.5", "8.5%"),
    )


def test_the_tables_fit_80_columns() -> None:
    long = [
        node(f"/{'a' * 90}/{index}", "SimplifiedLayerNormalization" * 3, 12_345.6, provider=CUDA) for index in range(20)
    ]
    for table in profile_table.tables(row(profiled(*long, provider=CUDA))):
        widths = [
            max(len(line[index]) for line in (table.headings, *table.rows)) for index in range(len(table.rows[0]))
        ]
        assert sum(widths) + 2 * len(widths) <= 80
        assert len(table.rows) <= 8


def test_what_the_tables_leave_out_is_counted() -> None:
    rows = [node(f"n{index}", f"Op{index}", 20.0 - index) for index in range(10)]
    operators, nodes = profile_table.tables(row(profiled(*rows, node("n10", "Op9", 1.0))))
    assert len(operators.rows) == len(nodes.rows) == 8
    assert operators.rows[-1] == ("3 more operators", "4", "", "37.0", "23.7%")
    assert nodes.rows[-1] == ("4 more nodes", "", "", "", "37.0", "23.7%")
    for table in (operators, nodes):
        assert sum(float(line[-1].rstrip("%")) for line in table.rows) == pytest.approx(100, abs=0.5)


def test_eight_need_no_row_for_others() -> None:
    operators, _ = profile_table.tables(row(profiled(*(node(f"n{index}", f"Op{index}", 1.0) for index in range(8)))))
    assert operators.rows[-1][0] == "Op7"


def test_operators_of_pytorch_need_one_table_and_a_row_without_a_profile_none() -> None:
    eager = profiled(node("aten::gelu", "aten::gelu", 41.0, provider="cpu", precision=""), provider="cpu")
    (table,) = profile_table.tables(row(eager))
    assert table.rows == (("aten::gelu", "1", "–", "41.0", "100.0%"),)
    assert profile_table.tables(row(None)) == []


@pytest.mark.parametrize(("latency_ms", "runs"), [(0.0, 50), (0.03, 50), (100.0, 20), (5_000.0, 5)])
def test_a_profile_takes_about_two_seconds(latency_ms: float, runs: int) -> None:
    assert bench_profile.runs_for(latency_ms) == runs
