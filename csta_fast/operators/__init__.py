"""The six operators: signatures, gradients, transforms, and how PyTorch learns of them."""
