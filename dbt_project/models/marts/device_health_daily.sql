{{ config(materialized='incremental') }}

with windows as (
    select * from {{ ref('stg_gold__sensor_health') }}
    where {{ moved('event_date') }}
),

daily as (
    select
        device_id,
        event_date,
        max(contract) as contract,
        max(device_type) as device_type,
        max(site) as site,
        max(zone) as zone,
        max(window_seconds) as window_seconds,
        count(*) as windows,
        count(*) filter (where is_failing) as failing_windows,
        count(*) filter (where actual = 0) as silent_windows,
        sum(expected) as expected,
        sum(actual)::bigint as actual,
        -- The mean of the windows, not actual / expected of the day: a burst must not make up for a gap.
        avg(health_pct order by window_start) as health_pct,
        min(health_pct) as min_health_pct,
        min(window_start) filter (where is_failing) as first_failing_window,
        max(window_start) filter (where is_failing) as last_failing_window
    from windows
    group by device_id, event_date
)

select
    *,
    health_pct < 90 as is_failing,
    actual = 0 as is_silent
from daily
