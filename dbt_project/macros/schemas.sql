{# A model's schema is the one that its folder names: `staging`, or `main` for what people query. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ custom_schema_name or target.schema }}
{%- endmacro %}
