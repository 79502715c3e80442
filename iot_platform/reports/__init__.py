"""Finished reports: each a pure function of the lake and a date, rendered for people. Who sends them is elsewhere."""
