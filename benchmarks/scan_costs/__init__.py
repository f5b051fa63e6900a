"""What a scan's CUDA kernels cost, counted in their machine code; needs no GPU. See benchmarks/README.md."""
