{{ config(materialized='incremental') }}

with windows as (
    select * from {{ ref('stg_gold__sensor_windows') }}
    where metric in ('temperature', 'humidity', 'energy') and {{ moved('event_date') }}
)

select
    device_id,
    event_date,
    window_start,
    max(device_type) as device_type,
    max(site) as site,
    max(zone) as zone,
    max(avg) filter (where metric = 'temperature') as temperature,
    max(min) filter (where metric = 'temperature') as temperature_min,
    max(max) filter (where metric = 'temperature') as temperature_max,
    max(avg) filter (where metric = 'humidity') as humidity,
    max(min) filter (where metric = 'humidity') as humidity_min,
    max(max) filter (where metric = 'humidity') as humidity_max,
    max(sum) filter (where metric = 'energy') as energy,
    sum(readings)::bigint as readings,
    sum(anomalies)::bigint as anomalies
from windows
group by device_id, event_date, window_start
