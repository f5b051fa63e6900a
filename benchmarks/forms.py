"""What an operator saves beside the nodes that it stands for, in ONNX Runtime on a CPU.

    python benchmarks/forms.py --threads 2 --rounds 15

The gate: one direction of Mamba as BidirectionalSelectiveScan, whose gate is fused; as LowRankSelectiveScan and three
nodes; as MatMul, SelectiveScan and three nodes. The low rank: the four directions of VMamba-T's first stage as
LowRankSelectiveScan; as MatMul and SelectiveScan.

All forms take their turns (A B C A B C ...) in one process; printed are medians and least times.
"""

from __future__ import annotations

import statistics
import time

import click
import numpy as np
from onnx import ModelProto, parser
from onnxruntime import InferenceSession, SessionOptions

from vimdeploy.libraries import library_path
from vimdeploy.ops.contract import DOMAIN, VERSION

GATE_INPUTS = {
    "u": "1, 1, {L}, {E}",
    "xz": "1, {L}, {XZ}",
    "dt_bc": "1, 1, {L}, {DT_BC}",
    "dt_weight": "1, {E}, {R}",
    "transposed": "1, {R}, {E}",
    "bias": "1, {E}",
    "A": "1, {E}, {N}",
    "D": "1, {E}",
}
SPLITS = """
    rows = Constant <value_ints = [{R}, {N}, {N}]> ()
    low_rank, B, C = Split <axis = 3> (dt_bc, rows)
    x, z = Split <axis = 2, num_outputs = 2> (xz)
"""
GATE_NODES = """
    one = Constant <value_ints = [1]> ()
    scanned = Squeeze (y_of_group, one)
    sigmoid = Sigmoid (z)
    gate = Mul (z, sigmoid)
    y = Mul (scanned, gate)
"""
GATE_FORMS = {
    "gate fused": """
    y = vimdeploy.BidirectionalSelectiveScan <reverse = [0], scale = 1.0> (u, xz, dt_bc, dt_weight, bias, A, D)
""",
    "gate of three nodes": f"""{SPLITS}
    y_of_group = vimdeploy.LowRankSelectiveScan <reverse = [0], delta_softplus = 1>
        (u, low_rank, A, B, C, D, bias, dt_weight)
{GATE_NODES}""",
    "gate and step sizes of nodes": f"""{SPLITS}
    delta = MatMul (low_rank, transposed)
    y_of_group = vimdeploy.SelectiveScan <reverse = [0], delta_softplus = 1> (u, delta, A, B, C, D, bias)
{GATE_NODES}""",
}

RANK_INPUTS = {
    "u": "1, {G}, {L}, {E}",
    "low_rank": "1, {G}, {L}, {R}",
    "A": "{G}, {E}, {N}",
    "B": "1, {G}, {L}, {N}",
    "C": "1, {G}, {L}, {N}",
    "D": "{G}, {E}",
    "bias": "{G}, {E}",
    "dt_weight": "{G}, {E}, {R}",
    "transposed": "1, {G}, {R}, {E}",
}
RANK_FORMS = {
    "low rank fused": """
    y = vimdeploy.LowRankSelectiveScan <reverse = [0, 0, 1, 1], delta_softplus = 1>
        (u, low_rank, A, B, C, D, bias, dt_weight)
""",
    "MatMul before": """
    delta = MatMul (low_rank, transposed)
    y = vimdeploy.SelectiveScan <reverse = [0, 0, 1, 1], delta_softplus = 1> (u, delta, A, B, C, D, bias)
""",
}

CASES = (
    (GATE_FORMS, GATE_INPUTS, {"L": 1024, "E": 384, "N": 16, "R": 24, "XZ": 2 * 384, "DT_BC": 24 + 2 * 16}),
    (RANK_FORMS, RANK_INPUTS, {"G": 4, "L": 3136, "E": 96, "N": 1, "R": 6}),
)


def model_of(body: str, inputs: dict[str, str], sizes: dict[str, int]) -> ModelProto:
    """A graph of these nodes, whose inputs are all there, used or not."""
    declared = ", ".join(f"float[{dims.format(**sizes)}] {name}" for name, dims in inputs.items())
    result = ", ".join("?" * (4 if "G" in sizes else 3))
    return parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20, "{DOMAIN}": {VERSION}]> forms ({declared}) => (float[{result}] y)'
        f"{{{body.format(**sizes)}}}"
    )


def session_of(model: ModelProto, threads: int) -> InferenceSession:
    """A session with the compiled operators."""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(library_path()))
    return InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def random_inputs(inputs: dict[str, str], sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Numbers as trained models have them: step sizes around 0.1, A around -1."""
    random = np.random.default_rng(0)
    values = {
        name: random.standard_normal([int(size) for size in dims.format(**sizes).split(",")], dtype=np.float32)
        for name, dims in inputs.items()
    }
    values["A"] = -np.exp(0.1 * values["A"])
    values["bias"] -= 2
    values["dt_weight"] *= 0.3
    values["transposed"] = values["dt_weight"].swapaxes(-1, -2).reshape(values["transposed"].shape)
    return values


def measure(
    forms: dict[str, str], inputs: dict[str, str], sizes: dict[str, int], threads: int, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of every form in every round, after one that warms up."""
    values = random_inputs(inputs, sizes)
    sessions = {name: session_of(model_of(body, inputs, sizes), threads) for name, body in forms.items()}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds + 1):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, values)
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: taken[1:] for name, taken in times.items()}


@click.command()
@click.option("--threads", default=2, show_default=True, help="Threads of each session.")
@click.option("--rounds", default=15, show_default=True, help="Turns that each form takes.")
def main(threads: int, rounds: int) -> None:
    """Measure and print."""
    click.echo(f"{threads} thread(s); ms, median and least")
    for forms, inputs, sizes in CASES:
        click.echo("  ".join(f"{letter} {size}" for letter, size in sizes.items() if len(letter) == 1))
        for name, times in measure(forms, inputs, sizes, threads, rounds).items():
            click.echo(f"  {name:30} {statistics.median(times):7.2f} {min(times):7.2f}")


if __name__ == "__main__":
    main()
