"""How many examples a property gets."""

from hypothesis import settings


def at_most(number: int) -> settings:
    """For a property whose examples are slow: `number` of them, fewer where the profile has fewer (scripts/test --pure)."""
    return settings(max_examples=min(number, settings().max_examples))
