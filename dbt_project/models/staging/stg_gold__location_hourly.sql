-- Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there.
with source as (
    select * from {{ source('gold', 'location_hourly') }}
),

renamed as (
    select
        site,
        metric,
        hour,
        sensors,
        readings,
        avg,
        min,
        max,
        anomalies,
        processed_at,
        pipeline_version,
        event_date
    from source
    where {{ moved('event_date') }}
)

select * from renamed
