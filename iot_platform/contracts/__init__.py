"""What the platform promises about the shape of data: wire contracts (messages) and table contracts.

Each is declared once, here; Arrow, Spark, Pandera and JSON Schema derive from the declaration.
"""
