"""Native 3D-context models."""
