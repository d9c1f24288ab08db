"""Checkpoints and configs of the published code, brought to this project."""
