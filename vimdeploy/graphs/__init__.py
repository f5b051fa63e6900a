"""Surgery on ONNX graphs: inner values as outputs, other types, products in float32."""
