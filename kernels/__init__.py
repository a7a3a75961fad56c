"""Triton kernels of csta_fast; none yet."""
