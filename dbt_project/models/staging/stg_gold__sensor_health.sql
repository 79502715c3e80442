-- Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there.
with source as (
    select * from {{ source('gold', 'sensor_health') }}
),

renamed as (
    select
        device_id,
        window_start,
        window_seconds,
        contract,
        device_type,
        site,
        zone,
        expected,
        actual,
        health_pct,
        is_failing,
        processed_at,
        pipeline_version,
        event_date
    from source
    where {{ moved('event_date') }}
)

select * from renamed
