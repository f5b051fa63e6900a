"""Files of ours to files of another precision: float16, bfloat16, int8."""
