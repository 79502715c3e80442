"""The derived tables: one portable SQL text each, and the catalog of what every one of them reads.

What belongs here: the texts and their declaration. A text reads named views, a one-row view ``params`` and, where declared,
``clocks``; it has no date literal, no function of one engine only and no I/O. Engines run it (``iot_platform/engines``).
"""
