-- A site's readings by the hour: one row per (site, metric, hour); readings without a site stand under `unknown`.
with readings as (
    select
        coalesce(site, 'unknown') as site,
        metric,
        date_trunc('hour', event_time) as hour,
        device_id,
        value,
        greatest(least(value, 1e150), -1e150) as x,
        is_anomaly
    from silver_readings
),

-- By device first: counting distinct devices among millions of readings costs far more.
devices as (
    select
        site, metric, hour, device_id,
        count(*) as readings,
        sum(x) as sum,
        min(value) as min,
        max(value) as max,
        count(*) filter (where is_anomaly) as anomalies
    from readings
    group by site, metric, hour, device_id
)

select
    d.site,
    d.metric,
    d.hour,
    count(*) as sensors,
    cast(sum(d.readings) as bigint) as readings,
    sum(d.sum) / sum(d.readings) as avg,
    min(d.min) as min,
    max(d.max) as max,
    cast(sum(d.anomalies) as bigint) as anomalies,
    p.processed_at,
    p.pipeline_version,
    p.event_date
from devices d
cross join params p
group by d.site, d.metric, d.hour, p.processed_at, p.pipeline_version, p.event_date
