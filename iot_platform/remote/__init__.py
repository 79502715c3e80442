"""Derived tables made somewhere else: the launch of one job for a range of dates, and the program that is that job.

``main`` is what runs there, with the engines of this package and without Dagster; ``payload`` says what is launched,
``launch`` asks AWS for it, ``report`` is what both ends say to each other.
"""
