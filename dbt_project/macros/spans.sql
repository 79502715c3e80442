{#
    The strategy `by_span`, for rows that reach over several dates (columns `event_date` … `end_date`).

    A row stands under the date on which it begins, and what it is depends on every date up to its end. So when a date moves
    all dates are written again that are spanned, with that date, by a row as it was or as it is now: a row that grows, shrinks,
    parts or vanishes is never left beside what became of it. The model yields all of its rows; others are not touched.
#}
{% macro get_incremental_by_span_sql(arg_dict) %}
  {% set columns = arg_dict.dest_columns | map(attribute='quoted') | join(', ') %}
  {% set moved = moved_days() %}
  create or replace temp table spanned as
    select distinct unnest(generate_series(event_date, end_date, interval '1 day'))::date as event_date
    from (
      select event_date, end_date from {{ arg_dict.target_relation }}
      union all
      select event_date, end_date from {{ arg_dict.temp_relation }}
    )
    where {% for day in moved -%} date '{{ day }}' between event_date and end_date or {% endfor %} false
    union
    select unnest([{% for day in moved %}date '{{ day }}'{{ ', ' if not loop.last }}{% endfor %}]::date[]);
  delete from {{ arg_dict.target_relation }} where event_date in (select event_date from spanned);
  insert into {{ arg_dict.target_relation }} ({{ columns }})
    select {{ columns }} from {{ arg_dict.temp_relation }} where event_date in (select event_date from spanned);
  insert into {{ bookkeeping('_made') }}
    select '{{ model.name }}', event_date, '{{ invocation_id }}' from spanned
{% endmacro %}
