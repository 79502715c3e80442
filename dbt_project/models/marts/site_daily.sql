{{ config(materialized='incremental') }}

-- A device counts at the site where it stood that date, one that sent nothing at the site where it should have been.
with days as (
    select
        coalesce(site, 'unknown') as site,
        event_date,
        device_id,
        readings,
        anomalies,
        rejected
    from {{ ref('int_device_days') }}
    where {{ moved('event_date') }}
),

health as (
    select
        coalesce(days.site, device_health_daily.site, 'unknown') as site,
        event_date,
        device_id,
        health_pct,
        is_failing,
        is_silent
    from {{ ref('device_health_daily') }} as device_health_daily
    left join days using (device_id, event_date)
    where {{ moved('event_date') }}
),

energy as (
    select coalesce(site, 'unknown') as site, event_date, sum(energy order by device_id, window_start) as energy
    from {{ ref('environment_windows') }}
    where {{ moved('event_date') }}
    group by coalesce(site, 'unknown'), event_date
)

select
    site,
    event_date,
    count(*) as devices,
    count(*) filter (where readings > 0) as reporting_devices,
    coalesce(sum(readings), 0)::bigint as readings,
    coalesce(sum(anomalies), 0)::bigint as anomalies,
    coalesce(sum(rejected), 0)::bigint as rejected,
    avg(health_pct order by device_id) as health_pct,
    count(*) filter (where is_failing) as failing_devices,
    count(*) filter (where is_silent) as silent_devices,
    max(energy) as energy
from days
full join health using (site, event_date, device_id)
left join energy using (site, event_date)
group by site, event_date
