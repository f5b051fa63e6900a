"""Float32 files of ours -> int8 files: the Linear layers as Q/DQ nodes, all else as it was."""
