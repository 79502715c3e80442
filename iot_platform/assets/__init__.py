"""The assets: what each table is, and the few lines that make it. One file a layer; derived tables share one.

Nothing here computes rows: that is ``ingest`` (Bronze), ``engines`` with ``transforms`` (Silver, Gold, registry) or dbt.
"""
