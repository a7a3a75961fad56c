"""Training and evaluation of networks on skeleton recordings, on Lightning."""
