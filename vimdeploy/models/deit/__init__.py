"""DeiT (https://arxiv.org/abs/2012.12877), the baseline of benchmarks."""
