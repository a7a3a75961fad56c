"""Networks with coupled spatial-temporal attention."""

from csta_fast.models.csta_cnn import CSTACNN
from csta_fast.models.hcn import HCN, official_names

__all__ = ["CSTACNN", "HCN", "official_names"]
