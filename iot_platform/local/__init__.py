"""Services on loopback, from pinned artifacts: Kafka, its jars, the Java that runs them.

What belongs here: finding, fetching, starting, watching and ending local processes. Nothing here knows about
readings; what a topic carries is in ``contracts``, which topics there are in ``topics``.
"""
