"""An IoT data platform: Kafka to checked, date-partitioned Delta tables, as a Dagster asset graph.

Importing the package connects to nothing, reads no environment and starts no JVM.
"""
