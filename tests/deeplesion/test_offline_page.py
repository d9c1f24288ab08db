"""JSON and scripts inside a page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from deeplesion.offline_page import escaped_json, page_source, script_hash


def test_escaped_json() -> None:
    value = {"a": "</script>&\u2028\u2029", "b": [np.float64(np.nan), np.arange(2), (True, None)]}
    text = escaped_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": value["a"], "b": [None, [0, 1], [True, None]]}
    with pytest.raises(TypeError, match="cannot put a set into the report"):
        escaped_json({"a": {1}})


def test_script_hash() -> None:
    # echo -n 'alert(1)' | openssl dgst -sha256 -binary | base64
    assert script_hash("alert(1)") == "sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI="


def test_sources_of_pages_are_installed() -> None:
    for package in ("deeplesion.evaluation", "deeplesion.lesions"):
        assert page_source(package, "page.html").startswith("<!doctype html>")
