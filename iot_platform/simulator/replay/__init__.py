"""``iot replay``: anybody's CSV, Parquet or JSON lines as messages of a contract, told how by one YAML mapping.

``mapping`` reads the YAML, ``files`` and ``rows`` the data, ``values`` the cells; ``convert`` makes messages of rows,
``run`` sends them.
"""
