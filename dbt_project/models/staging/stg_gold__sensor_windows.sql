-- Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there.
with source as (
    select * from {{ source('gold', 'sensor_windows') }}
),

renamed as (
    select
        device_id,
        metric,
        window_start,
        device_type,
        site,
        zone,
        readings,
        avg,
        min,
        max,
        sum,
        p50,
        p95,
        p99,
        anomalies,
        first_event_time,
        last_event_time,
        processed_at,
        pipeline_version,
        event_date
    from source
    where {{ moved('event_date') }}
)

select * from renamed
