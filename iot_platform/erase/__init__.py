"""Erasing a device: its rows, what was made from them, old versions, and the proof that nothing is left (ADR 0013).

What belongs here: the steps of ``iot erase``, one file each, put in order by ``run``. Tombstones and the audit table stand
in ``lake``; ingestion asks them there.
"""
