{#
    dbt's own four tests, giving whole rows where they give keys and counts: who reads of a failed test sees the rows, and
    which dates they are of. `adapter.dispatch` prefers these. A test fails on the same data as before.
#}

{% macro duckdb__test_not_null(model, column_name) %}
select * from {{ model }} where {{ column_name }} is null
{% endmacro %}

{% macro duckdb__test_unique(model, column_name) %}
select * from {{ model }} where {{ column_name }} is not null
qualify count(*) over (partition by {{ column_name }}) > 1
{% endmacro %}

{% macro duckdb__test_accepted_values(model, column_name, values, quote=True) %}
{% set listed = [] %}
{% for value in values %}{% do listed.append("'" ~ value ~ "'" if quote else value) %}{% endfor %}
select * from {{ model }} where {{ column_name }} not in ({{ listed | join(', ') }})
{% endmacro %}

{% macro duckdb__test_relationships(model, column_name, to, field) %}
select child.*
from {{ model }} as child
where child.{{ column_name }} is not null
  and not exists (select 1 from {{ to }} as parent where parent.{{ field }} = child.{{ column_name }})
{% endmacro %}
