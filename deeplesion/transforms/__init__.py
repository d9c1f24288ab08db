"""Pipeline transforms for stacks of CT slices, ``(H, W, D)``, beside mmdetection's own."""
