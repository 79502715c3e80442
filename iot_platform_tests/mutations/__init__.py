"""Deliberate bugs, each caught by a test that is named here: what the tests are worth."""
