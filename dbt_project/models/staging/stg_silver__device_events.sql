-- Ephemeral: a day has a million events, and no reader of the marts needs the single ones.
{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with source as (
    select * from {{ source('silver', 'readings') }}
),

renamed as (
    select
        event_id,
        device_id,
        metric as device_type,
        event_duration_ms,
        event_time,
        event_date
    from source
    where contract = 'device_event'
)

select * from renamed
