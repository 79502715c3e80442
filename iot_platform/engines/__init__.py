"""Engines: what runs the transforms (DuckDB, Spark) behind one protocol, and the Spark session that ingestion shares."""
