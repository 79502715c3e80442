{#
    Incremental by date, by levels (section 8 of the design).

    Every input date has a level that only grows. `_input_levels` holds, for each model made by date, the levels of all its
    inputs that each of its dates was made from; a date moved when any of them is another now. Data and levels change in
    one transaction, so a build that is killed goes on where it was. A model with `meta: {grain: week}` is made by weeks:
    its dates are Mondays (`week_start`), and the level of an input is the sum over the week.
#}

{# SQL that holds for the input rows this build has to read; for all of them when the table is made from nothing. #}
{% macro moved(column) -%}
  {%- if not execute -%} true
  {%- elif not is_incremental() and (asked().from is none or should_full_refresh()) -%} true
  {%- else -%}
    {%- set days = [] -%}
    {%- for day in moved_days(fresh=not is_incremental()) -%}
      {%- for offset in range(7 if date_grain() == 'week' else 1) -%}
        {%- do days.append((modules.datetime.date.fromisoformat(day) + modules.datetime.timedelta(days=offset)).isoformat()) -%}
      {%- endfor -%}
    {%- endfor -%}
    {{ is_one_of(column, days) }}
  {%- endif -%}
{%- endmacro %}

{# What the build is narrowed to: `from`, `to` and `remake`, as variables by hand or as the builder put it beside the lake. #}
{% macro asked() %}
  {% if var('from', none) is not none %}
    {% do return({'from': var('from'), 'to': var('to'), 'remake': var('remake', false)}) %}
  {% endif %}
  {% for row in run_query("select first::varchar, last::varchar, remake from lake.main.asked").rows %}
    {% do return({'from': row[0] | string, 'to': row[1] | string, 'remake': row[2]}) %}
  {% endfor %}
  {% do return({'from': none, 'remake': false}) %}
{% endmacro %}

{% macro is_one_of(column, days) -%}
  {%- if days -%} {{ column }} in (date '{{ days | join("', date '") }}') {%- else -%} false {%- endif -%}
{%- endmacro %}

{% macro date_grain() %}
  {% do return(model.config.get('meta', {}).get('grain', 'day')) %}
{% endmacro %}

{% macro date_column() %}
  {% do return('week_start' if date_grain() == 'week' else 'event_date') %}
{% endmacro %}

{# The sources and models whose dates this node reads; an ephemeral model stands for what it reads itself. #}
{% macro dated_inputs(node) %}
  {% set found = {'sources': [], 'models': []} %}
  {% for id in node.depends_on.nodes %}
    {% if id in graph.sources %}
      {% do found.sources.append(graph.sources[id].source_name ~ '_' ~ graph.sources[id].name) %}
    {% elif graph.nodes[id].config.materialized == 'incremental' %}
      {% do found.models.append(graph.nodes[id].name) %}
    {% elif graph.nodes[id].config.materialized == 'ephemeral' %}
      {% set beneath = dated_inputs(graph.nodes[id]) %}
      {% do found.sources.extend(beneath.sources) %}
      {% do found.models.extend(beneath.models) %}
    {% endif %}
  {% endfor %}
  {% do return(found) %}
{% endmacro %}

{# (input, event_date, level): what this model's dates would be made from now. #}
{% macro needed_levels() -%}
  {%- set inputs = dated_inputs(model) -%}
  select input, date_trunc('{{ date_grain() }}', event_date)::date as event_date, sum(level)::hugeint as level
  from (
    select input, event_date, level from lake.main.levels
    where event_date is not null and input in ('{{ inputs.sources | join("', '") }}')
    union all by name
    select model as input, event_date, level from {{ bookkeeping('_input_levels') }}
    where model in ('{{ inputs.models | join("', '") }}')
  )
  group by all
{%- endmacro %}

{# The dates (or weeks) to make: those that moved, within the variables `from` and `to`; all of them with `remake`. #}
{% macro moved_days(fresh=false) %}
  {% set whole = should_full_refresh() %}
  {% set range = asked() %}
  {% set query %}
    with needed as ({{ needed_levels() }}),
    recorded as (
      select input, event_date, level from {{ bookkeeping('_input_levels') }}
      where model = '{{ model.name }}' and not {{ fresh }}
    )
    select distinct event_date::varchar as day
    from needed full join recorded using (input, event_date)
    where (needed.level is distinct from recorded.level or {{ range.remake }})
    {% if range.from is not none and not whole %}
      and event_date between date_trunc('{{ date_grain() }}', date '{{ range.from }}')::date and date '{{ range.to }}'
    {% endif %}
    order by day
  {% endset %}
  {% set days = [] %}
  {% for row in run_query(query).rows %}{% do days.append(row[0] | string) %}{% endfor %}
  {% do return(days) %}
{% endmacro %}

{# The strategy `by_date`: dates that moved are replaced, also by nothing; all others stay as they are. #}
{% macro get_incremental_by_date_sql(arg_dict) %}
  {% set columns = arg_dict.dest_columns | map(attribute='quoted') | join(', ') %}
  delete from {{ arg_dict.target_relation }} where {{ is_one_of(date_column(), moved_days()) }};
  insert into {{ arg_dict.target_relation }} ({{ columns }}) select {{ columns }} from {{ arg_dict.temp_relation }}
{% endmacro %}
