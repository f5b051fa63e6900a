"""Models that no tool meant, and such as somebody made to do harm: each is one sentence, before anything runs it."""

import onnx
import pytest
from onnx import TensorProto, helper

from vimdeploy.artifact import open_artifact
from vimdeploy.errors import ModelFileError
from vimdeploy.onnx_file import nodes_of_graph, parse


def end_with(graph, node, value):
    graph.node.append(node)
    graph.output[0].CopyFrom(value)


def weight(graph):
    matmul = next(node for node in graph.node if node.op_type == "MatMul")
    return next(tensor for tensor in graph.initializer if tensor.name == matmul.input[1])


def external(name="e"):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[5], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "private.bin"), ("length", "20")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def in_a_constant(model):
    model.graph.node.insert(0, helper.make_node("Constant", [], ["e"], value=external(), name="c"))


def in_a_subgraph(model):
    body = helper.make_graph(
        [helper.make_node("Identity", ["s"], ["o"])],
        "body",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [5])],
        [external("s")],
    )
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [1]))
    model.graph.node.append(helper.make_node("If", ["yes"], ["e"], then_branch=body, else_branch=body, name="if"))


def in_a_function(model):
    constant = helper.make_node("Constant", [], ["y"], value=external())
    model.functions.append(helper.make_function("evil", "F", [], ["y"], [constant], [helper.make_opsetid("", 20)]))


def in_a_sparse_tensor(model):
    sparse = model.graph.sparse_initializer.add(dims=[5])
    sparse.values.CopyFrom(external())
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [5], range(5)))


def calling(count, times):
    """So many functions, each of which calls the one before so many times."""

    def change(model):
        for i in range(count):
            called = [
                helper.make_node(f"F{i - 1}" if i else "Identity", ["x"], ["y"], domain="bomb" if i else "")
            ] * times
            opsets = [helper.make_opsetid("", 20), helper.make_opsetid("bomb", 1)]
            model.functions.append(helper.make_function("bomb", f"F{i}", ["x"], ["y"], called, opsets))
        model.opset_import.append(helper.make_opsetid("bomb", 1))
        model.graph.node.append(helper.make_node(f"F{count - 1}", ["images"], ["bomb"], domain="bomb"))

    return change


def calling_itself(model):
    node = helper.make_node("F", ["x"], ["y"], domain="loop")
    model.functions.append(helper.make_function("loop", "F", ["x"], ["y"], [node], [helper.make_opsetid("loop", 1)]))
    model.graph.node.append(helper.make_node("F", ["images"], ["loop"], domain="loop"))


CHANGES = {
    "no outputs": (lambda m: m.graph.ClearField("output"), "its graph has no outputs"),
    "no inputs": (lambda m: m.graph.ClearField("input"), "its graph has no inputs"),
    "a node without outputs": (
        lambda m: m.graph.node[3].ClearField("output"),
        "its node .* has no output",
    ),
    "a node without outputs in a function": (
        lambda m: m.functions[0].node[0].ClearField("output"),
        "its node .* has no output",
    ),
    "a node without outputs of an unknown operator": (
        lambda m: m.graph.node.append(helper.make_node("Sink", ["images"], [], "sink", domain="vimdeploy")),
        r"its node sink \(Sink\) has no output",
    ),
    "a node with an input too few": (
        lambda m: next(n for n in m.graph.node if n.op_type == "MatMul").input.pop(),
        "does not pass onnx's checker: .*MatMul",
    ),
    "a node twice": (lambda m: m.graph.node.append(m.graph.node[5]), "does not pass onnx's checker"),
    "an operator that is none": (
        lambda m: setattr(m.graph.node[0], "op_type", "NoSuchOperator"),
        "does not pass onnx's checker: .*NoSuchOperator",
    ),
    "no opset": (
        lambda m: m.opset_import.remove(next(o for o in m.opset_import if not o.domain)),
        "does not pass onnx's checker",
    ),
    "an output that is a list": (
        lambda m: end_with(
            m.graph,
            helper.make_node("SequenceConstruct", ["logits"], ["z"]),
            helper.make_tensor_sequence_value_info("z", TensorProto.FLOAT, None),
        ),
        "z, one of its outputs, is a sequence, no tensor",
    ),
    "an output that is text": (
        lambda m: end_with(
            m.graph,
            helper.make_node("Cast", ["logits"], ["z"], to=TensorProto.STRING),
            helper.make_tensor_value_info("z", TensorProto.STRING, ["batch", 5]),
        ),
        r"speaks of the outputs logits .*its graph has z \(batch, 5\) of string",
    ),
    "a weight of a lying type": (
        lambda m: setattr(weight(m.graph), "data_type", TensorProto.DOUBLE),
        r"the tensor .* wants \d+ bytes for its shape and type, and has \d+",
    ),
    "a weight of no type": (lambda m: setattr(weight(m.graph), "data_type", 99), "is of a type that is unknown here"),
    "a weight of a huge shape": (
        lambda m: weight(m.graph).dims.__setitem__(0, 1 << 40),
        r"the tensor .* wants \d+ bytes for its shape and type",
    ),
    "a weight of a negative shape": (lambda m: weight(m.graph).dims.__setitem__(0, -1), "has the shape"),
    "a tensor elsewhere in a constant": (in_a_constant, "it keeps e in another file"),
    "a tensor elsewhere in a subgraph": (in_a_subgraph, "it keeps s in another file"),
    "a tensor elsewhere in a function": (in_a_function, "it keeps e in another file"),
    "a tensor elsewhere in a sparse one": (in_a_sparse_tensor, "it keeps e in another file"),
    "a function without one of its outputs": (
        lambda m: m.functions[0].node.pop(),
        "no node of its function BidirectionalConv1d gives the output",
    ),
    "functions that unfold": (calling(40, 2), "its functions unfold to more than 1,000,000 nodes"),
    "functions in a deep chain": (calling(300, 1), "call each other more than 100 deep"),
    "a function that calls itself": (calling_itself, "its function F calls itself"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_model_that_is_refused(tiny_proto, tmp_path, what):
    change, message = CHANGES[what]
    model = onnx.ModelProto()
    model.CopyFrom(tiny_proto)
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    for foreign in (False, True):
        with pytest.raises(ModelFileError, match=rf"model\.onnx cannot be used: .*{message}") as refused:
            open_artifact(path, foreign)
        assert len(str(refused.value)) < 1200


@pytest.mark.parametrize("name", ["vimdeploy.format", "layers.0.norm.Mul", "images", "head.weight"])
def test_one_flipped_bit_in_a_name(tiny_proto, tmp_path, name):
    data = bytearray(tiny_proto.SerializeToString())
    data[data.index(name.encode())] ^= 0x80
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        open_artifact(path, foreign=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no graph"),
        (b"\x08\x08", "holds no graph"),
        (b"no model at all", "is no whole ONNX file"),
        (b"\x18\0\0\0ORTM\0\0", r"is in ONNX Runtime's own format \(\.ort\)"),
    ],
)
def test_bytes_that_are_no_model(data, message):
    with pytest.raises(ModelFileError, match=f"a.onnx {message}"):
        parse(data, "a.onnx")


class TestForeign:
    @pytest.fixture
    def saved(self, tmp_path):
        def save(location):
            tensor = external("w")
            tensor.external_data[0].value = location
            x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [5]) for name in "xy")
            graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
            path = tmp_path / "foreign.onnx"
            path.write_bytes(helper.make_model(graph).SerializeToString())
            return path

        return save

    def test_tensors_beside_the_file_are_let_pass(self, saved):
        assert not open_artifact(saved("weights/w.bin"), foreign=True).ours

    @pytest.mark.parametrize("location", ["/etc/passwd", "../w.bin", "a/../../w.bin", "C:\\w.bin", ""])
    def test_tensors_elsewhere_are_not(self, saved, location):
        with pytest.raises(ModelFileError, match="outside its own folder"):
            open_artifact(saved(location), foreign=True)


def test_nodes_inside_nodes_are_seen(tiny_proto):
    function = tiny_proto.functions[-1]
    scan = next(node for node in function.node if node.op_type == "Scan")
    graph = helper.make_graph([scan], "g", [], [])
    assert len(list(nodes_of_graph(graph))) == 1 + len(scan.attribute[0].g.node)
