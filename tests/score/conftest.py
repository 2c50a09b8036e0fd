from __future__ import annotations

import pytest

from harness.score import nu


@pytest.fixture(scope="session")
def nu_choice() -> nu.NuChoice:
    choice = nu.find_nu()
    if choice is None:
        pytest.skip(f"the Nu Html Checker is not installed: {nu.INSTALL_HINT}")
    return choice
