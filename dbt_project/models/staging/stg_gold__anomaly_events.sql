-- Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there.
with source as (
    select * from {{ source('gold', 'anomaly_events') }}
),

renamed as (
    select
        device_id,
        metric,
        detector,
        started_at,
        ended_at,
        readings,
        peak_score,
        peak_value,
        continues,
        processed_at,
        pipeline_version,
        event_date
    from source
    where {{ moved('event_date') }}
)

select * from renamed
