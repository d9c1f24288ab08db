"""What the command-line tools share: configs, distributed set-up, mixed precision."""
