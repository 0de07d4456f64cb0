"""Why a test can't run on this machine."""

import pytest

from upswitch_lab.find import ENV

NONE_HERE = pytest.param("", marks=pytest.mark.skip(reason=f"no nginx here: run scripts/setup, or set {ENV}"), id="none")
