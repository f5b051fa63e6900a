"""What TensorRT's Python package has in each version, so that no stand-in can answer what a version cannot.

Source: NVIDIA/TensorRT, the names that pybind11 is given at the tags v10.0.1, v10.3.0, v10.4.0, v10.16 and v11.1, in
``python/src/infer/pyCore.cpp``, ``pyFoundationalTypes.cpp``, ``pyGraph.cpp``, ``pyPlugin.cpp`` and
``python/src/parsers/pyOnnx.cpp``. Not every name does what it says: ``IPluginV3.get_capability_interface`` gives None
before v10.4.0 (``pyPlugin.cpp``, ``pluginDoc``). For 11.4, whose sources are not there, PyPI's tensorrt-cu13-bindings
11.4.0.106, loaded with empty libraries in place of TensorRT's.
"""

_FIRST = {
    "BuilderFlag": (
        "BF16 DEBUG DIRECT_IO DISABLE_COMPILATION_CACHE DISABLE_TIMING_CACHE ERROR_ON_TIMING_CACHE_MISS "
        "EXCLUDE_LEAN_RUNTIME FP16 FP8 GPU_FALLBACK INT8 OBEY_PRECISION_CONSTRAINTS "
        "PREFER_PRECISION_CONSTRAINTS REFIT REFIT_IDENTICAL SAFETY_SCOPE SPARSE_WEIGHTS STRIP_PLAN TF32 "
        "VERSION_COMPATIBLE WEIGHTLESS WEIGHT_STREAMING"
    ),
    "Builder": (
        "build_serialized_network create_builder_config create_network create_optimization_profile "
        "error_recorder get_plugin_registry gpu_allocator is_network_supported logger max_DLA_batch_size "
        "max_threads num_DLA_cores platform_has_fast_fp16 platform_has_fast_int8 platform_has_tf32 reset"
    ),
    "DataType": "BF16 BOOL FLOAT FP8 HALF INT32 INT4 INT64 INT8 UINT8",
    "EngineInspector": "error_recorder execution_context get_engine_information get_layer_information",
    "ExecutionContextAllocationStrategy": "ON_PROFILE_CHANGE STATIC USER_MANAGED",
    "HardwareCompatibilityLevel": "AMPERE_PLUS NONE",
    "IBuilderConfig": (
        "DLA_core add_optimization_profile algorithm_selector avg_timing_iterations "
        "builder_optimization_level can_run_on_DLA clear_flag clear_quantization_flag create_timing_cache "
        "default_device_type engine_capability flags get_calibration_profile get_device_type get_flag "
        "get_memory_pool_limit get_preview_feature get_quantization_flag get_tactic_sources get_timing_cache "
        "hardware_compatibility_level int8_calibrator is_device_type_set max_aux_streams "
        "num_optimization_profiles plugins_to_serialize profile_stream profiling_verbosity progress_monitor "
        "quantization_flags reset reset_device_type set_calibration_profile set_device_type set_flag "
        "set_memory_pool_limit set_preview_feature set_quantization_flag set_tactic_sources set_timing_cache"
    ),
    "ICudaEngine": (
        "create_engine_inspector create_execution_context create_execution_context_without_device_memory "
        "create_serialization_config device_memory_size engine_capability error_recorder "
        "get_device_memory_size_for_profile get_tensor_bytes_per_component get_tensor_components_per_element "
        "get_tensor_dtype get_tensor_format get_tensor_format_desc get_tensor_location get_tensor_mode "
        "get_tensor_name get_tensor_profile_shape get_tensor_profile_values get_tensor_shape "
        "get_tensor_vectorized_dim hardware_compatibility_level has_implicit_batch_dimension is_debug_tensor "
        "is_shape_inference_io minimum_weight_streaming_budget name num_aux_streams num_io_tensors num_layers "
        "num_optimization_profiles profiling_verbosity refittable serialize serialize_with_config "
        "streamable_weights_size tactic_sources weight_streaming_budget"
    ),
    "IExecutionContext": (
        "active_optimization_profile all_binding_shapes_specified all_shape_inputs_specified debug_sync "
        "device_memory engine enqueue_emits_profile error_recorder execute_async_v3 execute_v2 "
        "get_debug_listener get_debug_state get_input_consumed_event get_max_output_size get_output_allocator "
        "get_tensor_address get_tensor_shape get_tensor_strides infer_shapes name nvtx_verbosity "
        "persistent_cache_limit profiler report_to_profiler set_all_tensors_debug_state set_aux_streams "
        "set_debug_listener set_input_consumed_event set_input_shape set_optimization_profile_async "
        "set_output_allocator set_tensor_address set_tensor_debug_state temporary_allocator "
        "update_device_memory_size_for_shapes"
    ),
    "ILayer": (
        "get_input get_output get_output_type metadata name num_inputs num_outputs output_type_is_set "
        "precision precision_is_set reset_output_type reset_precision set_input set_output_type type"
    ),
    "INetworkDefinition": (
        "add_activation add_assertion add_cast add_concatenation add_constant add_convolution_nd "
        "add_deconvolution_nd add_dequantize add_einsum add_elementwise add_fill add_gather add_gather_v2 "
        "add_grid_sample add_identity add_if_conditional add_input add_loop add_lrn add_matrix_multiply "
        "add_nms add_non_zero add_normalization add_one_hot add_padding_nd add_parametric_relu add_plugin_v2 "
        "add_plugin_v3 add_pooling_nd add_quantize add_ragged_softmax add_reduce add_resize "
        "add_reverse_sequence add_scale add_scale_nd add_scatter add_select add_shape add_shuffle add_slice "
        "add_softmax add_topk add_unary builder error_recorder flags get_flag get_input get_layer get_output "
        "has_implicit_batch_dimension is_debug_tensor mark_debug mark_output mark_output_for_shapes name "
        "num_inputs num_layers num_outputs remove_tensor serialize set_weights_name unmark_debug "
        "unmark_output unmark_output_for_shapes"
    ),
    "IPluginRegistry": (
        "acquire_plugin_resource all_creators deregister_creator deregister_library error_recorder "
        "get_creator get_plugin_creator load_library parent_search_enabled plugin_creator_list "
        "register_creator release_plugin_resource"
    ),
    "IProgressMonitor": "phase_finish phase_start step_complete",
    "ISerializationConfig": "clear_flag flags get_flag set_flag",
    "LayerType": (
        "ACTIVATION ASSERTION CAST CONCATENATION CONDITION CONDITIONAL_INPUT CONDITIONAL_OUTPUT CONSTANT "
        "CONVOLUTION DECONVOLUTION DEQUANTIZE EINSUM ELEMENTWISE FILL GATHER GRID_SAMPLE IDENTITY ITERATOR "
        "LOOP_OUTPUT LRN MATRIX_MULTIPLY NMS NON_ZERO NORMALIZATION ONE_HOT PADDING PARAMETRIC_RELU PLUGIN "
        "PLUGIN_V2 PLUGIN_V3 POOLING QUANTIZE RAGGED_SOFTMAX RECURRENCE REDUCE RESIZE REVERSE_SEQUENCE SCALE "
        "SCATTER SELECT SHAPE SHUFFLE SLICE SOFTMAX TOPK TRIP_LIMIT UNARY"
    ),
    "MemoryPoolType": ("DLA_GLOBAL_DRAM DLA_LOCAL_DRAM DLA_MANAGED_SRAM TACTIC_DRAM TACTIC_SHARED_MEMORY WORKSPACE"),
    "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH STRONGLY_TYPED",
    "OnnxParser": (
        "clear_errors clear_flag flags get_error get_flag get_layer_output_tensor "
        "get_used_vc_plugin_libraries num_errors parse parse_from_file parse_with_weight_descriptors set_flag "
        "supports_model supports_operator"
    ),
    "ParserError": (
        "code desc file func line local_function_stack local_function_stack_size node node_name node_operator"
    ),
    "ProfilingVerbosity": "DETAILED LAYER_NAMES_ONLY NONE",
    "Refitter": (
        "error_recorder get_all get_all_weights get_dynamic_range get_missing get_missing_weights "
        "get_named_weights get_tensors_with_dynamic_range get_weights_location get_weights_prototype logger "
        "max_threads refit_cuda_engine refit_cuda_engine_async set_dynamic_range set_named_weights set_weights "
        "unset_named_weights weights_validation"
    ),
    "Runtime": (
        "DLA_core deserialize_cuda_engine engine_host_code_allowed error_recorder get_plugin_registry "
        "gpu_allocator load_runtime logger max_threads num_DLA_cores tempfile_control_flags "
        "temporary_directory"
    ),
    "SerializationFlag": "EXCLUDE_LEAN_RUNTIME EXCLUDE_WEIGHTS",
    "TensorIOMode": "INPUT NONE OUTPUT",
}
_LATER = {
    "10.3.0": {
        "BuilderFlag": "+INT4 +REFIT_INDIVIDUAL",
        "IBuilderConfig": "+runtime_platform",
        "ICudaEngine": (
            "+device_memory_size_v2 +get_device_memory_size_for_profile_v2 "
            "+get_weight_streaming_automatic_budget +weight_streaming_budget_v2 "
            "+weight_streaming_scratch_memory_size"
        ),
        "IExecutionContext": "+set_device_memory",
        "INetworkDefinition": ("+are_weights_marked_refittable +mark_weights_refittable +unmark_weights_refittable"),
        "OnnxParser": "+get_subgraph_nodes +is_subgraph_supported +num_subgraphs +supports_model_v2",
    },
    "10.4.0": {
        "IBuilderConfig": "+max_num_tactics",
    },
    "10.16": {
        "Builder": "+build_engine_with_config +build_serialized_network_to_stream",
        "BuilderFlag": "+DISTRIBUTIVE_INDEPENDENCE +EDITABLE_TIMING_CACHE +FP4 +MONITOR_MEMORY +STRICT_NANS",
        "DataType": "+E8M0 +FP4",
        "HardwareCompatibilityLevel": "+SAME_COMPUTE_CAPABILITY",
        "IBuilderConfig": "+l2_limit_for_tiling +remote_auto_tuning_config +tiling_optimization_level",
        "ICudaEngine": "+create_runtime_config +get_aliased_input_tensor +get_engine_stat",
        "IExecutionContext": "+get_runtime_config +set_communicator +unfused_tensors_debug_state",
        "ILayer": "+num_ranks",
        "INetworkDefinition": (
            "+add_attention +add_cumulative +add_dist_collective +add_dynamic_quantize "
            "+add_dynamic_quantize_v2 +add_kv_cache_update +add_moe +add_normalization_v2 +add_plugin "
            "+add_rotary_embedding +add_squeeze +add_unsqueeze +mark_unfused_tensors_as_debug_tensors "
            "+unmark_unfused_tensors_as_debug_tensors"
        ),
        "IPluginRegistry": "+all_creators_recursive",
        "IRuntimeConfig": ("+get_execution_context_allocation_strategy +set_execution_context_allocation_strategy"),
        "LayerType": (
            "+ATTENTION_INPUT +ATTENTION_OUTPUT +CUMULATIVE +DIST_COLLECTIVE +DYNAMIC_QUANTIZE "
            "+KV_CACHE_UPDATE +MOE +ROTARY_EMBEDDING +SQUEEZE +UNSQUEEZE"
        ),
        "NetworkDefinitionCreationFlag": "+PREFER_AOT_PYTHON_PLUGINS +PREFER_JIT_PYTHON_PLUGINS",
        "OnnxParser": "+load_initializer +load_model_proto +parse_model_proto +set_builder_config",
        "SerializationFlag": "+INCLUDE_REFIT",
    },
    "11.1": {
        "Builder": "-platform_has_fast_fp16 -platform_has_fast_int8 -platform_has_tf32",
        "BuilderFlag": (
            "-BF16 -FP16 -FP4 -FP8 -INT4 -INT8 -OBEY_PRECISION_CONSTRAINTS -PREFER_PRECISION_CONSTRAINTS -WEIGHTLESS"
        ),
        "IBuilderConfig": (
            "+all_build_routes +build_route -algorithm_selector -clear_quantization_flag "
            "-get_calibration_profile -get_quantization_flag -int8_calibrator -quantization_flags "
            "-set_calibration_profile -set_quantization_flag"
        ),
        "ICudaEngine": (
            "-create_execution_context_without_device_memory -device_memory_size "
            "-get_device_memory_size_for_profile -has_implicit_batch_dimension "
            "-minimum_weight_streaming_budget -weight_streaming_budget"
        ),
        "IExecutionContext": "-all_shape_inputs_specified",
        "ILayer": (
            "-output_type_is_set -precision -precision_is_set -reset_output_type -reset_precision -set_output_type"
        ),
        "INetworkDefinition": "+add_attention_v2",
        "IPluginRegistry": "-get_plugin_creator -plugin_creator_list",
        "NetworkDefinitionCreationFlag": "-EXPLICIT_BATCH",
        "OnnxParser": "-parse_with_weight_descriptors -supports_model",
        "Refitter": "-get_dynamic_range -get_tensors_with_dynamic_range -set_dynamic_range",
    },
    "11.4": {
        "INetworkDefinition": "-serialize",
        "Refitter": "+release_refit_resources",
        "Runtime": "+dla_workspace_allocation_strategy",
    },
}


def _bindings():
    names = {cls: set(members.split()) for cls, members in _FIRST.items()}
    found = {"10.0.1": {cls: frozenset(members) for cls, members in names.items()}}
    for version, changes in _LATER.items():
        for cls, changed in changes.items():
            members = names.setdefault(cls, set())
            members |= {name[1:] for name in changed.split() if name[0] == "+"}
            members -= {name[1:] for name in changed.split() if name[0] == "-"}
        found[version] = {cls: frozenset(members) for cls, members in names.items()}
    return found


BINDINGS = _bindings()
"""By version and class, the members of the class."""


def bindings_of(version):
    """Those of the newest version in the table that is no newer than ``version``."""
    wanted = _numbers(version)
    return BINDINGS[max((known for known in BINDINGS if _numbers(known) <= wanted), key=_numbers)]


def _numbers(version):
    return tuple(int(part) for part in version.split(".")[:2])
