"""The real parser of TensorRT-RTX; for TensorRT, which needs a GPU, a stand-in for its parser."""

import pytest
from helpers import stand_in_tensorrt

from vimdeploy.artifact import open_artifact
from vimdeploy.errors import ExecutionError, ModelFileError
from vimdeploy.exporters.tensorrt_network import _plugin_layers, _with_one_meaning, parsed_network
from vimdeploy.flavors import collecting_logger

OPERATORS = {"BidirectionalConv1d": 2, "BidirectionalSelectiveScan": 2}


class TestRtx:
    def test_prints_nothing(self, tiny_onnx, capfd):
        trt = pytest.importorskip("tensorrt_rtx")
        parsed_network(trt, open_artifact(tiny_onnx).model, "rtx", collecting_logger(trt))
        assert capfd.readouterr() == ("", "")

    def test_the_plugins_in_the_registry_are_not_asked(self, tiny_onnx):
        """The parser would take them for what is no layer of TensorRT-RTX, and end the process."""
        model = _with_one_meaning(open_artifact(tiny_onnx).model, "rtx")
        ours = [node for node in model.graph.node if node.domain == "vimdeploy"]
        assert {attribute.name for node in ours for attribute in node.attribute} == {"reverse", "scale"}
        assert len(model.functions) == 2


class TestTensorRT:
    @pytest.fixture
    def model(self, tiny_onnx):
        return open_artifact(tiny_onnx).model

    def parse(self, trt, model):
        return parsed_network(trt, model, "tensorrt", collecting_logger(trt))

    @pytest.mark.parametrize("prefers_functions", [False, True])
    def test_each_operator_is_a_plugin_layer(self, model, prefers_functions):
        trt = stand_in_tensorrt.tensorrt()
        trt.prefers_functions = prefers_functions  # as before 10.7
        _, network, _ = self.parse(trt, model)
        assert _plugin_layers(trt, network) == OPERATORS

    def test_the_parser_sees_no_function_and_the_nodes_as_they_are(self, model):
        trt = stand_in_tensorrt.tensorrt()
        self.parse(trt, model)
        assert len(trt.parsed.functions) == 0
        assert len(model.functions) == 2
        assert list(trt.parsed.graph.node) == list(model.graph.node)

    @pytest.mark.parametrize("lost", [1, 4])
    def test_a_lost_plugin_is_an_error(self, model, lost):
        trt = stand_in_tensorrt.tensorrt("10.15.0")
        trt.lost_plugins = lost
        with pytest.raises(
            ModelFileError, match=r"TensorRT 10\.15\.0 has not taken our plugin for each of our operators"
        ):
            self.parse(trt, model)

    def test_the_parsers_reason_is_told(self, model):
        trt = stand_in_tensorrt.tensorrt()
        trt.parser_error = "Plugin not found"
        with pytest.raises(
            ModelFileError, match=r"The parser of TensorRT 10\.3\.0 refuses the model: Plugin not found"
        ):
            self.parse(trt, model)

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
