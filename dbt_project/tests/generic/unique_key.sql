{# These columns are the table's key: no part of it is null, and no two rows have the same. One test, for the two belong together. #}
{% test unique_key(model, columns) %}
select *
from {{ model }}
qualify count(*) over (partition by {{ columns | join(', ') }}) > 1
  {% for column in columns %}or {{ column }} is null {% endfor %}
{% endtest %}
