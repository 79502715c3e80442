"""The asset checks, one file a kind: pure functions of the lake and a date; ``asset_checks.py`` wraps them for Dagster."""
