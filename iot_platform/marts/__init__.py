"""The marts: one DuckDB file for analysts, built by dbt from pinned versions of the lake, published by atomic rename.

What belongs here: everything around ``dbt_project/`` that SQL cannot do: showing dbt the lake (``sources``, ``dbt_plugin``),
writing its staging files from the table contracts (``staging``), running it (``build``) and publishing (``publish``).
"""
