{# Remember how every node ended, so that a failure is not forgotten by a later run that leaves its test out. #}
{% macro record_results(results) %}
  {% if execute %}
    {% for result in results if result.status | string != 'skipped' %}
      delete from {{ bookkeeping('_results') }} where node = '{{ result.node.unique_id }}';
      insert into {{ bookkeeping('_results') }} values (
        '{{ result.node.unique_id }}', '{{ result.status }}',
        '{{ (result.message or '') | string | replace("'", "''") }}', now());
    {% endfor %}
  {% endif %}
{% endmacro %}

{#
    Publish after `dbt build`, and only a sound file: every model and test of the project that ever ran ended well the last
    time. Otherwise readers keep the file they have. `dbt run` alone publishes nothing: nobody has tested it.
#}
{% macro publish_marts(results) %}
  {% if execute and flags.WHICH == 'build' and results %}
    {% set known = graph.nodes.keys() | list + (results | map(attribute='node.unique_id') | list) %}
    {% set failed = [] %}
    {% for row in run_query(
      "select node from " ~ bookkeeping('_results') ~ " where status in ('error', 'fail', 'runtime error') order by node").rows %}
      {% if row[0] in known %}{% do failed.append(row[0]) %}{% endif %}
    {% endfor %}
    {% if failed %}
      {% do log('Not published, failed: ' ~ failed | join(', '), info=True) %}
    {% else %}
      {% do adapter.store_relation('dbt_plugin', this, [], '', 'duckdb', {}) %}
      {% do log('Published', info=True) %}
    {% endif %}
  {% endif %}
{% endmacro %}
