#!/usr/bin/env python3
"""Latency of cinch's runtime beside ONNX Runtime and OpenVINO: study A's three nets at 100, 75, 50 and 12.5 % of
structures, float and int8, one thread, batch 1, random weights, in one interleaved run.

    make && python3 bench/peers/peers.py [--isa avx2] [--nets rnn,cnn] [--rounds 12] [--json FILE]

Makes its own virtual environment in bench/.venv on first use (pip install onnxruntime openvino onnx numpy); without a network,
or with --no-peers, it says so and times cinch alone. Each round times a short block of runs of every engine in turn; a cell
is the least of the blocks' medians, for all engines alike (a busy machine only ever adds), a ratio cinch / best peer. --isa caps cinch and, through
ONEDNN_MAX_CPU_ISA, OpenVINO; ONNX Runtime cannot be capped and is left out then.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
VENV = os.path.join(ROOT, "bench", ".venv")
PACKAGES = ["numpy", "onnx", "onnxruntime", "openvino"]
FULL = {"rnn": [64], "cnn": [32, 64, 96, 32], "resnet": [64, 64, 64, 128, 128, 128, 128, 128, 128]}
KEEP = [1.0, 0.75, 0.5, 0.125]


def widths(net, keep):
    return [max(1, round(n * keep)) for n in FULL[net]]


def enter_venv():
    """Runs this script again inside bench/.venv; returns a reason when that cannot be."""
    python = os.path.join(VENV, "bin", "python")
    if os.path.abspath(sys.prefix) == os.path.abspath(VENV):
        return None
    try:
        if not os.path.exists(python):
            venv.create(VENV, with_pip=True)
        if subprocess.run([python, "-c", "import " + ", ".join(PACKAGES)], capture_output=True).returncode:
            print(f"installing {' '.join(PACKAGES)} into {os.path.relpath(VENV)} ...", flush=True)
            done = subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], capture_output=True, text=True)
            if done.returncode:
                return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    except (OSError, subprocess.SubprocessError) as problem:
        return str(problem)
    os.execv(python, [python, *sys.argv])


# ---- ONNX models -------------------------------------------------------------------------------------------------

class Graph:
    """An ONNX graph under construction; weights are drawn so that activations keep their size."""

    def __init__(self, seed):
        import numpy
        self.np, self.random = numpy, numpy.random.default_rng(seed)
        self.nodes, self.weights, self.n = [], [], 0

    def weight(self, shape, fan):
        from onnx import numpy_helper
        self.n += 1
        name = f"w{self.n}"
        value = self.random.uniform(-1.7, 1.7, shape) / fan ** 0.5
        self.weights.append(numpy_helper.from_array(value.astype("float32"), name))
        return name

    def constant(self, value, kind="int64"):
        from onnx import numpy_helper
        self.n += 1
        self.weights.append(numpy_helper.from_array(self.np.array(value, kind), f"c{self.n}"))
        return f"c{self.n}"

    def add(self, op, inputs, outputs=1, **attributes):
        from onnx import helper
        self.n += 1
        names = [f"t{self.n}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0]

    def conv(self, x, cin, cout, k, pad):
        w, b = self.weight([cout, cin, k], cin * k), self.weight([cout], 4)
        return self.add("Conv", [x, w, b], kernel_shape=[k], pads=[pad, pad])

    def linear(self, x, cin, cout):
        return self.add("Gemm", [x, self.weight([cout, cin], cin), self.weight([cout], 4)], transB=1)

    def finish(self, y, path):
        from onnx import helper, save, TensorProto
        self.nodes.append(helper.make_node("Sigmoid", [y], ["y"]))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 12, 1000])
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
        graph = helper.make_graph(self.nodes, "net", [x], [out], self.weights)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def onnx_cnn(w, path):
    g, x, cin = Graph(1), "x", 12
    for cout in w:
        x = g.add("MaxPool", [g.add("Relu", [g.conv(x, cin, cout, 3, 0)])], kernel_shape=[3], strides=[3])
        cin = cout
    g.finish(g.linear(g.add("Flatten", [x]), cin * 11, 5), path)


def onnx_resnet(w, path):
    g, x, cin = Graph(1), "x", 12
    for b in range(3):
        a = g.add("Relu", [g.conv(x, cin, w[3 * b], 7, 3)])
        a = g.add("Relu", [g.conv(a, w[3 * b], w[3 * b + 1], 5, 2)])
        a = g.conv(a, w[3 * b + 1], w[3 * b + 2], 3, 1)
        x = g.add("Relu", [g.add("Add", [a, g.conv(x, cin, w[3 * b + 2], 1, 0)])])
        cin = w[3 * b + 2]
    x = g.add("Flatten", [g.add("GlobalAveragePool", [x])])
    g.finish(g.linear(x, cin, 5), path)


def onnx_rnn(w, path):
    g, h = Graph(1), w[0]
    x = g.add("Transpose", ["x"], perm=[2, 0, 1])  # [T, 1, 12]
    y = g.add("LSTM", [x, g.weight([1, 4 * h, 12], h), g.weight([1, 4 * h, h], h), g.weight([1, 8 * h], h)],
              hidden_size=h)                       # [T, 1, 1, h]
    y = g.add("Squeeze", [y, g.constant([1])])
    y = g.add("LayerNormalization", [y, g.weight([h], 1), g.weight([h], 1)], axis=-1, epsilon=1e-5)
    y = g.add("Transpose", [y], perm=[1, 2, 0])    # [1, h, T]
    y = g.add("MaxPool", [y], kernel_shape=[125], strides=[125])
    g.finish(g.linear(g.add("Flatten", [y]), h * 8, 5), path)


def quantise(net, path, out):
    """ONNX Runtime's own tools: static QDQ with per-channel weights for convolutions, dynamic for the LSTM."""
    import logging
    import numpy
    from onnxruntime import quantization as q
    logging.disable(logging.WARNING)
    if net == "rnn":
        q.quantize_dynamic(path, out, weight_type=q.QuantType.QInt8, per_channel=True)
        return

    class Reader(q.CalibrationDataReader):
        def __init__(self):
            self.left = [numpy.random.default_rng(i).normal(0, 1, (1, 12, 1000)).astype("float32") for i in range(4)]

        def get_next(self):
            return {"x": self.left.pop()} if self.left else None

    q.quantize_static(path, out, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                      activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8)


# ---- engines -----------------------------------------------------------------------------------------------------

def ort_runner(path):
    import numpy
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = numpy.random.default_rng(1).normal(0, 1, (1, 12, 1000)).astype("float32")
    # Bound input and output: no copies, the least that an embedding program would pay.
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def openvino_runner(path):
    import numpy
    import openvino
    core = openvino.Core()
    model = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                                             "INFERENCE_PRECISION_HINT": "f32"})
    request = model.create_infer_request()
    x = numpy.random.default_rng(1).normal(0, 1, (1, 12, 1000)).astype("float32")
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return request.infer


def block_us(run, runs):
    clock, times = time.perf_counter, []
    for _ in range(runs):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times) * 1e6


class Cinch:
    def __init__(self, program, isa):
        self.child = subprocess.Popen([program, "serve"] + ([isa] if isa else []), stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)

    def block_us(self, path, runs):
        self.child.stdin.write(f"{path} {runs}\n")
        self.child.stdin.flush()
        return float(self.child.stdout.readline().split()[1])


RUNNERS = {"onnxruntime": ort_runner, "openvino": openvino_runner}


def crashes(engine, path):
    """Capped, OpenVINO dies on some models (LSTMs of 8 units under AVX2, 2026.4): one run in a process of its own tells."""
    return subprocess.run([sys.executable, __file__, "--try", engine, path], capture_output=True).returncode < 0


def peers_of(net, keep, folder, capped):
    """{engine: {kind: run}} for one width."""
    runners, path = {}, os.path.join(folder, f"{net}-{keep}.onnx")
    {"cnn": onnx_cnn, "resnet": onnx_resnet, "rnn": onnx_rnn}[net](widths(net, keep), path)
    small = path.replace(".onnx", "-int8.onnx")
    quantise(net, path, small)
    for engine, make in RUNNERS.items():
        if capped and engine == "onnxruntime":
            continue
        runners[engine] = {}
        for kind, file in (("float", path), ("int8", small)):
            if capped and crashes(engine, file):
                print(f"  {engine} crashes on {net} {kind} at {keep:.1%}", file=sys.stderr)
                continue
            try:
                runners[engine][kind] = make(file)
            except Exception as problem:  # an engine that cannot run a model has no figure
                print(f"  {engine} cannot run {net} {kind}: {str(problem).splitlines()[0]}", file=sys.stderr)
    return runners


def measure(options, cinch, net, keep, folder, with_peers):
    """{(engine, kind): µs} of one width of one net."""
    runs = {"rnn": 30, "cnn": 300, "resnet": 10}[net] * (1 if keep > 0.3 else 3)
    peers = peers_of(net, keep, folder, bool(options.isa)) if with_peers else {}
    files = {}
    for kind in ("float", "int8"):
        files[kind] = os.path.join(folder, f"{net}-{keep}-{kind}.cinch")
        subprocess.run([options.program, "make", net, kind, "1", files[kind], *map(str, widths(net, keep))], check=True)
    times = {}
    for _ in range(options.rounds):
        for kind, file in files.items():
            times.setdefault(("cinch", kind), []).append(cinch.block_us(file, runs))
            for engine, kinds in peers.items():
                if kind in kinds:
                    times.setdefault((engine, kind), []).append(block_us(kinds[kind], runs))
    return {key: min(values) for key, values in times.items()}


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            lines = [line.split(":", 1)[1].strip() for line in f if line.startswith(("model name", "cpu family"))]
        return f"{lines[1]} (family {lines[0]})" if len(lines) > 1 else platform.processor()
    except (OSError, IndexError):
        return platform.processor() or "unknown"


def row(cell, engine, kind):
    value = cell.get((engine, kind))
    return f"{value:10.1f}" if value is not None else "         -"


def print_table(results, with_peers):
    print(f"\n{'net':7} {'kind':6} {'keep':>6} {'cinch µs':>10} {'ort µs':>10} {'openvino µs':>11} {'cinch/best':>10} {'int8/float':>10}")
    for (net, keep), cell in results.items():
        for kind in ("float", "int8"):
            peers = [v for (engine, k), v in cell.items() if k == kind and engine != "cinch"]
            ratio = f"{cell['cinch', kind] / min(peers):10.2f}" if with_peers and peers else "         -"
            own = f"{cell['cinch', 'int8'] / cell['cinch', 'float']:10.2f}" if kind == "int8" else ""
            print(f"{net:7} {kind:6} {keep:6.1%} {row(cell, 'cinch', kind)} {row(cell, 'onnxruntime', kind)} "
                  f"{row(cell, 'openvino', kind):>11} {ratio} {own}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", help="cap: portable, avx2, avxvnni, avx512, avx512vnni")
    parser.add_argument("--nets", default="rnn,cnn,resnet")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", help="also write the figures here")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "bench", "rt_time"))
    parser.add_argument("--try", nargs=2, dest="attempt", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attempt:
        RUNNERS[options.attempt[0]](options.attempt[1])()
        return
    if not os.path.exists(options.program):
        sys.exit(f"{options.program} is missing: run make first, or name it with --program")
    reason = "--no-peers" if options.no_peers else enter_venv()
    with_peers = reason is None
    if not with_peers:
        print(f"peers are not measured: {reason}")
    if options.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = {"avx2": "AVX2", "avxvnni": "AVX2_VNNI", "avx512": "AVX512_CORE",
                                            "avx512vnni": "AVX512_CORE_VNNI"}.get(options.isa, "SSE41")
    cinch, results = Cinch(options.program, options.isa), {}
    print(f"{cpu_name()}; cap {options.isa or 'none'}; {options.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for net in options.nets.split(","):
            for keep in KEEP:
                results[net, keep] = measure(options, cinch, net, keep, folder, with_peers)
                print(f"  {net} {keep:.1%} done", file=sys.stderr, flush=True)
    print_table(results, with_peers)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump([{"net": n, "keep": k, "engine": e, "kind": t, "us": v}
                       for (n, k), cell in results.items() for (e, t), v in cell.items()], f, indent=1)


main()
