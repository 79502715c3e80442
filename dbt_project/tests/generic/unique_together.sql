{# No two rows have the same values in these columns: the key of a table whose key is several columns. #}
{% test unique_together(model, columns) %}
select *
from {{ model }}
qualify count(*) over (partition by {{ columns | join(', ') }}) > 1
{% endtest %}
