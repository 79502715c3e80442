-- Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there.
with source as (
    select * from {{ source('gold', 'device_type_windows') }}
),

renamed as (
    select
        device_type,
        window_start,
        events,
        avg_event_duration_ms,
        min_event_duration_ms,
        max_event_duration_ms,
        avg_value,
        processed_at,
        pipeline_version,
        event_date
    from source
    where {{ moved('event_date') }}
)

select * from renamed
