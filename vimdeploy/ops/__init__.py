"""The operators: the contract, and what PyTorch and ONNX know of them."""
