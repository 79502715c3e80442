"""The documentation as a site of plain files: contracts, tables, lineage by column, decisions, guides, and dbt's own docs.

``make docs`` builds it from a clone alone: no lake, broker, network or server. Everything that the code knows is asked of
the code (the asset graph, the contracts, the SQL texts); prose comes from the Markdown files of the repository. The pages
work from ``file://`` and name nothing outside themselves.
"""
