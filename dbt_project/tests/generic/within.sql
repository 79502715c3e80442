{# Every value that is not null lies at or above `minimum`, and at or below `maximum` where one is given. #}
{% test within(model, column_name, minimum, maximum=none) %}
select *
from {{ model }}
where {{ column_name }} < {{ minimum }}{% if maximum is not none %} or {{ column_name }} > {{ maximum }}{% endif %}
{% endtest %}
