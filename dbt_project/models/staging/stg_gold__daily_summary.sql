-- Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there.
with source as (
    select * from {{ source('gold', 'daily_summary') }}
),

renamed as (
    select
        device_id,
        metric,
        device_type,
        site,
        zone,
        readings,
        avg,
        min,
        max,
        p50,
        p95,
        p99,
        anomalies,
        duplicates,
        null_values,
        not_finite,
        out_of_range,
        avg_7d,
        processed_at,
        pipeline_version,
        event_date
    from source
    where {{ moved('event_date') }}
)

select * from renamed
