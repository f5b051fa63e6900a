"""What ``tools/gpu_kit`` does on a machine with an NVIDIA GPU: build, check, measure, and write down what came out.

    problems.py   the sizes, random operands, and what each problem costs at least
    reference.py  the operators in float64        kernels.py  our kernels, called from PyTorch
    timing.py     times on the device             machine.py  what the machine is
    records.py    results as JSON and tables      steps.py    the list of steps, each in a process of its own

The other modules are the steps.
"""
