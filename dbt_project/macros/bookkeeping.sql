{#
    What the file remembers about its own making, beside the marts:
    `_input_levels`  (model, input, event_date, level): what each date of a model was made from
    `_whole_levels`  (model, input, level): what a model was made from that reads a table without dates
    `_definitions`   (model, fingerprint): the code that a model was made by
    `_made`          (model, event_date, invocation_id): the dates that a model's last build made
    `_pinned`        (input, version): the lake's tables as the last run saw them
    `_results`       (node, status, message): how each model and test ended last
#}

{% macro bookkeeping(table) -%} "{{ target.database }}"."main"."{{ table }}" {%- endmacro %}

{% macro make_bookkeeping() %}
  create table if not exists {{ bookkeeping('_input_levels') }}
    (model varchar not null, input varchar not null, event_date date not null, level hugeint not null);
  create table if not exists {{ bookkeeping('_whole_levels') }}
    (model varchar not null, input varchar not null, level hugeint not null);
  create table if not exists {{ bookkeeping('_definitions') }} (model varchar not null, fingerprint varchar not null);
  create table if not exists {{ bookkeeping('_made') }}
    (model varchar not null, event_date date not null, invocation_id varchar not null);
  create or replace table {{ bookkeeping('_pinned') }} as select input, version from lake.main.pinned;
  create table if not exists {{ bookkeeping('_results') }}
    (node varchar not null, status varchar not null, message varchar, ended_at timestamptz not null);
{% endmacro %}

{# Everything a model's rows depend on besides data: its SQL and columns, and those of the models it reads. #}
{% macro definition(node) %}
  {% set parts = [node.raw_code, node.config.get('meta', {}).get('grain', 'day')] %}
  {% for column in node.columns.values() %}{% do parts.append(column.name ~ ' ' ~ column.data_type) %}{% endfor %}
  {% for id in node.depends_on.nodes if id in graph.nodes %}{% do parts.append(definition(graph.nodes[id])) %}{% endfor %}
  {% do return(local_md5(parts | join('\n'))) %}
{% endmacro %}

{# dbt's own rule, and one more: a table by date whose code changed is made again whole. #}
{% macro should_full_refresh() %}
  {% set asked = config.get('full_refresh') %}
  {% if asked is none %}{% set asked = flags.FULL_REFRESH %}{% endif %}
  {% if asked or not execute or config.get('materialized') != 'incremental' %}{% do return(asked) %}{% endif %}
  {% set made_by = run_query(
    "select fingerprint from " ~ bookkeeping('_definitions') ~ " where model = '" ~ model.name ~ "'") %}
  {% do return(made_by.rows | length > 0 and made_by.rows[0][0] != definition(graph.nodes[model.unique_id])) %}
{% endmacro %}

{# Before a table is made from nothing: what was recorded of the one before says nothing any more. #}
{% macro forget_levels() %}
  {% if execute and config.get('materialized') == 'incremental' and not is_incremental() %}
    delete from {{ bookkeeping('_input_levels') }} where model = '{{ model.name }}'
  {% endif %}
{% endmacro %}

{# After it was made, in the same transaction: what its dates were made from, and by which code. #}
{% macro record_levels() %}
  {% if execute and config.get('materialized') == 'incremental' %}
    {% set days = moved_days() %}
    delete from {{ bookkeeping('_input_levels') }}
    where model = '{{ model.name }}' and {{ is_one_of('event_date', days) }};
    insert into {{ bookkeeping('_input_levels') }}
    select '{{ model.name }}', * from ({{ needed_levels() }}) where {{ is_one_of('event_date', days) }};
    delete from {{ bookkeeping('_made') }} where model = '{{ model.name }}' and invocation_id <> '{{ invocation_id }}';
    insert into {{ bookkeeping('_made') }}
    select '{{ model.name }}', day, '{{ invocation_id }}'
    from unnest([{% for day in days %}date '{{ day }}'{{ ', ' if not loop.last }}{% endfor %}]::date[]) as made (day)
    where day not in (select event_date from {{ bookkeeping('_made') }} where model = '{{ model.name }}');
    delete from {{ bookkeeping('_definitions') }} where model = '{{ model.name }}';
    insert into {{ bookkeeping('_definitions') }} values
      ('{{ model.name }}', '{{ definition(graph.nodes[model.unique_id]) }}')
  {% elif execute and config.get('materialized') == 'table' and dated_inputs(model).sources %}
    delete from {{ bookkeeping('_whole_levels') }} where model = '{{ model.name }}';
    insert into {{ bookkeeping('_whole_levels') }}
    select '{{ model.name }}', input, level from lake.main.levels
    where event_date is null and input in ('{{ dated_inputs(model).sources | join("', '") }}')
  {% endif %}
{% endmacro %}
