"""The real parser of TensorRT-RTX; for TensorRT, which needs a GPU, a stand-in for its parser."""

import re
from types import MappingProxyType

import onnx
import pytest
from helpers import stand_in_tensorrt
from helpers.tensorrt_bindings import BINDINGS

from vimdeploy.artifact import open_artifact
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError
from vimdeploy.exporters.onnx_graph import onnx_from_model
from vimdeploy.exporters.tensorrt_network import (
    _with_one_meaning,
    mark_weights,
    network_sha256,
    parsed_network,
    weights_of,
)
from vimdeploy.flavors import collecting_logger
from vimdeploy.networks import network_of_variant


class TestRtx:
    def test_prints_nothing(self, tiny_onnx, capfd):
        trt = pytest.importorskip("tensorrt_rtx")
        parsed_network(trt, open_artifact(tiny_onnx).model, "rtx", collecting_logger(trt), {})
        assert capfd.readouterr() == ("", "")

    def test_the_plugins_in_the_registry_are_not_asked(self, tiny_onnx):
        """The parser would take them for what is no layer of TensorRT-RTX, and end the process."""
        model = _with_one_meaning(open_artifact(tiny_onnx).model, "rtx")
        ours = [node for node in model.graph.node if node.domain == "vimdeploy"]
        assert {attribute.name for node in ours for attribute in node.attribute} == {"reverse", "scale"}
        assert len(model.functions) == 2

    @pytest.mark.parametrize(("sizes", "shape"), [({}, (-1, 3, 32, 32)), ({"batch": 6}, (6, 3, 32, 32))])
    def test_a_dimension_of_one_size_is_a_number(self, tiny_onnx, sizes, shape):
        trt = pytest.importorskip("tensorrt_rtx")
        _, network, _ = parsed_network(trt, open_artifact(tiny_onnx).model, "rtx", collecting_logger(trt), sizes)
        assert (tuple(network.get_input(0).shape), tuple(network.get_output(0).shape)) == (shape, (shape[0], 5))

    def test_every_weight_can_be_another(self, tiny_onnx):
        trt = pytest.importorskip("tensorrt_rtx")
        model = open_artifact(tiny_onnx).model
        _, network, _ = parsed_network(trt, model, "rtx", collecting_logger(trt), {})
        mark_weights(trt, network, weights_of(model))
        assert all(map(network.are_weights_marked_refittable, weights_of(model)))
        with pytest.raises(ConfigError, match=r"TensorRT 1\.\S+ makes 1 weight of the model part .*: none\."):
            mark_weights(trt, network, ["none"])

    def refused(self, model):
        trt = pytest.importorskip("tensorrt_rtx")
        with pytest.raises(ModelFileError) as error:
            parsed_network(trt, model, "rtx", collecting_logger(trt), {})
        return str(error.value)

    def test_a_description_that_says_nothing_comes_with_the_node_and_its_operator(self, tiny_onnx):
        model = open_artifact(tiny_onnx).model
        first = model.graph.node[0]
        outputs = ["q8", "q8_scale", "q8_zero"]
        model.graph.node.insert(0, onnx.helper.make_node("DynamicQuantizeLinear", first.input[:1], outputs, "culprit"))
        assert self.refused(model).endswith(
            " refuses the model: node culprit (DynamicQuantizeLinear), checkDynamicQuantizeLinear: false"
        )

    def test_every_node_that_it_refuses_is_named(self, tiny_onnx):
        model = open_artifact(tiny_onnx).model
        for number, node in enumerate(model.graph.node):
            node.name = f"n{number}"
        unknown = [node for node in model.graph.node if node.op_type == "MatMul"][:2]
        for node in unknown:
            node.op_type, node.domain = "NoSuchOperator", "vimdeploy"
        said = self.refused(model)
        assert all(f"node {node.name} (NoSuchOperator), checkFallbackPluginImporter: " in said for node in unknown)

    def test_a_crash_of_the_parser_is_a_sentence(self, tiny_onnx):
        """A Scan whose body gives nothing passes every check."""
        model = open_artifact(tiny_onnx).model
        scan = next(node for body in model.functions for node in body.node if node.op_type == "Scan")
        body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
        del body.output[:]
        assert re.fullmatch(
            r"The parser of TensorRT 1\.\S+ (crashes on|refuses) the model.*(export the model again\.|Scan.*)",
            self.refused(model),
        )

    def test_a_body_that_calls_itself_does_not_end_this_process(self, tiny_onnx):
        model = open_artifact(tiny_onnx).model
        body = model.functions[0]
        body.node.append(onnx.helper.make_node(body.name, body.input, ["again"], domain=body.domain))
        body.opset_import.add(domain=body.domain, version=1)
        assert "The parser of TensorRT 1." in self.refused(model)


class TestTensorRT:
    @pytest.fixture
    def model(self, tiny_onnx):
        return open_artifact(tiny_onnx).model

    def parse(self, trt, model, sizes=MappingProxyType({})):
        return parsed_network(trt, model, "tensorrt", collecting_logger(trt), sizes)

    @pytest.mark.parametrize("version", BINDINGS)
    @pytest.mark.parametrize("prefers_functions", [False, True])
    def test_each_operator_is_a_plugin_layer(self, model, version, prefers_functions):
        trt = stand_in_tensorrt.tensorrt(version)
        trt.prefers_functions = prefers_functions  # as before 10.7
        _, network, _ = self.parse(trt, model)
        assert sum(layer.type is trt.LayerType.PLUGIN_V3 for layer in network.layers) == 4

    def test_the_parser_sees_no_function_and_the_nodes_as_they_are(self, model):
        trt = stand_in_tensorrt.tensorrt()
        self.parse(trt, model)
        assert len(trt.parsed.functions) == 0
        assert len(model.functions) == 2
        assert list(trt.parsed.graph.node) == list(model.graph.node)

    def test_a_dimension_of_one_size_is_a_number_for_the_parser(self, model):
        trt = stand_in_tensorrt.tensorrt()
        self.parse(trt, model, {"batch": 6})
        for values in (trt.parsed.graph.input, trt.parsed.graph.output):
            assert [value.type.tensor_type.shape.dim[0].dim_value for value in values] == [6]
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"

    def test_a_version_that_cannot_mark_weights(self):
        trt = stand_in_tensorrt.tensorrt("10.0.1")
        with pytest.raises(ConfigError, match=r"takes other weights needs TensorRT 10\.3 or newer, found 10\.0\.1"):
            mark_weights(trt, stand_in_tensorrt.Network(trt, 0), ["w"])

    @pytest.mark.parametrize("lost", [1, 4])
    def test_a_lost_plugin_is_an_error(self, model, lost):
        trt = stand_in_tensorrt.tensorrt("10.15.0")
        trt.lost_plugins = lost
        with pytest.raises(ModelFileError) as error:
            self.parse(trt, model)
        assert str(error.value) == (
            "TensorRT 10.15.0 has not taken our plugin for each of our operators: the file has "
            "{'BidirectionalConv1d': 2, 'BidirectionalSelectiveScan': 2}, the network has "
            f"{4 - lost} plugin layers; an engine of it would be slow or wrong."
        )

    @pytest.mark.parametrize(
        ("errors", "logs", "reason"),
        [
            (
                [{}, {"name": "", "desc": "false", "func": "checkSplit", "stack": ["Body"]}],
                ["ModelImporter.cpp:140: While parsing"],
                "node it (NoSuchOperator), checkFallbackPluginImporter: Plugin not found; "
                "node 3 (NoSuchOperator), in function Body, checkSplit: false",
            ),
            (
                [{"node": -1, "func": "importInitializers", "desc": "Failed to import initializer: w"}],
                ["WeightsContext.cpp:534: Size mismatch", "ModelImporter.cpp:151: Failed to import initializer: w"],
                "importInitializers: Failed to import initializer: w; WeightsContext.cpp:534: Size mismatch",
            ),
            ([], ["ModelImporter.cpp:1: No graph", "The end"], "ModelImporter.cpp:1: No graph; The end"),
        ],
    )
    def test_the_parsers_reasons_are_told(self, model, errors, logs, reason):
        trt = stand_in_tensorrt.tensorrt()
        trt.parser_errors = [stand_in_tensorrt.ParserError(**error) for error in errors]
        trt.parser_logs = logs
        with pytest.raises(ModelFileError) as error:
            self.parse(trt, model)
        assert str(error.value) == f"The parser of TensorRT 10.3.0 refuses the model: {reason}"

    def test_so_many_reasons_are_counted(self, model):
        trt = stand_in_tensorrt.tensorrt()
        trt.parser_errors = [stand_in_tensorrt.ParserError(node=i, name="", desc="x" * 10**5) for i in range(200)]
        with pytest.raises(ModelFileError) as error:
            self.parse(trt, model)
        assert str(error.value).endswith("xxx; and 196 more")
        assert len(str(error.value)) < 1500

    def test_a_tensorrt_that_cannot_start(self, model):
        def refuse(logger):
            logger.log(trt.ILogger.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("factory function returned nullptr")

        trt = stand_in_tensorrt.tensorrt()
        trt.Builder = refuse
        with pytest.raises(ExecutionError, match="TensorRT cannot start: CUDA initialization failure with error: 35"):
            self.parse(trt, model)

    @pytest.mark.parametrize("lacking", [(), ("STRONGLY_TYPED",)])
    def test_the_network_is_strongly_typed(self, model, lacking):
        trt = stand_in_tensorrt.tensorrt(NetworkDefinitionCreationFlag=lacking)
        _, network, _ = self.parse(trt, model)
        flags = trt.NetworkDefinitionCreationFlag
        assert network.flags == (0 if lacking else 1 << int(flags.STRONGLY_TYPED))


class TestNetworkWithoutWeights:
    """What two files of one network have in common."""

    def test_is_the_same_with_other_weights(self, tiny, tiny_proto):
        network = network_of_variant(tiny, 1)
        other = onnx_from_model(network.module, network.info)
        assert weights_of(other).keys() == weights_of(tiny_proto).keys()
        assert weights_of(other)["head.weight"] != weights_of(tiny_proto)["head.weight"]
        assert network_sha256(other) == network_sha256(tiny_proto)

    def test_another_shape_type_or_constant_is_another_network(self, tiny_proto):
        def changed(change):
            model = type(tiny_proto)()
            model.CopyFrom(tiny_proto)
            change({tensor.name: tensor for tensor in model.graph.initializer}, model.graph)
            return network_sha256(model)

        found = {
            network_sha256(tiny_proto),
            changed(lambda tensors, graph: tensors["head.weight"].dims.reverse()),
            changed(lambda tensors, graph: setattr(tensors["head.weight"], "data_type", onnx.TensorProto.FLOAT16)),
            changed(lambda tensors, graph: tensors["norm_f.Add.constant"].CopyFrom(tensors["norm_f.Pow.constant"])),
            changed(lambda tensors, graph: graph.node.pop()),
        }
        assert len(found) == 5
