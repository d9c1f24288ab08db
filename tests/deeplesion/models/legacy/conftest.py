"""The registrations, before anything of mmdetection is imported."""

from __future__ import annotations

import deeplesion  # noqa: F401
