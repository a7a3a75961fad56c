"""Triton kernels of csta_fast: the three operations and their gradients on a GPU.

The package calls ``operations``; ``plans`` decides blocks and slices; all else is device code. Only
``plans`` can be imported without Triton.
"""
