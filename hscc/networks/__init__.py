"""Dense networks: backbones by name, their cost, their form on disk, BatchNorm folding."""
