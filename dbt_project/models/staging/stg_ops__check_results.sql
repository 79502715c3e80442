-- Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there.
{{ config(materialized='table') }}

with source as (
    select * from {{ source('ops', 'check_results') }}
),

renamed as (
    select
        evaluation_id,
        event_id,
        evaluated_at,
        run_id,
        asset,
        check_name,
        event_date,
        passed,
        severity,
        is_blocking,
        figure,
        unit,
        warn_at,
        fail_at,
        description
    from source
)

select * from renamed
