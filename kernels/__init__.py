"""Triton kernels of csta_fast: the three operations and their gradients on a GPU.

``operations`` is what the package calls, ``plans`` says how a launch is cut up; everything else is
device code. Only ``plans`` can be imported without Triton.
"""
