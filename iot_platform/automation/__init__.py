"""What makes the graph move: partitions, sensors, schedules, and a way to run it without a daemon.

What belongs here: deciding what to run and when. Decisions are pure functions of levels, runs and offsets; the sensors
around them gather those and hand the answer to Dagster.
"""
