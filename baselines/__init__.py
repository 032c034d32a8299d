"""What Q2D2 is compared with: VQ, RVQ and FSQ behind the interface of `q2d2.bottleneck`."""
